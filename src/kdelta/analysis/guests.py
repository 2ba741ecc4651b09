# SPDX-License-Identifier: GPL-2.0-only
"""Blocks of a regime are pooled: their guests have to be alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdelta.analysis.boots import RawBoot
from kdelta.errors import KdeltaError

Facts = tuple[tuple[str, object], ...]


def require_same_guests(boots: Sequence[RawBoot], raw_dir: Path) -> None:
    """Check that all blocks of a regime were measured in guests of one kind.

    vCPUs, memory, acceleration and CPU model as host.json has them, else as the guest saw them;
    what was not recorded is taken to be alike. Other hosts are no reason: ratios are taken within
    blocks.

    Raises:
        KdeltaError: they were not.
    """
    for regime in dict.fromkeys(boot.regime for boot in boots):
        blocks: dict[int, dict[str, object]] = {}
        for boot in boots:
            if boot.regime == regime:
                facts = blocks.setdefault(boot.block, {})
                facts.update({k: v for k, v in _facts(boot).items() if v is not None})
        names = dict.fromkeys(name for facts in blocks.values() for name in facts)
        differing = [name for name in names if len(_values(blocks, name)) > 1]
        if differing:
            groups: dict[Facts, list[int]] = {}
            for number, facts in blocks.items():
                key = tuple((name, facts.get(name, "unknown")) for name in differing)
                groups.setdefault(key, []).append(number)
            told = "; ".join(
                f"block{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: "
                + ", ".join(f"{name} {value}" for name, value in key)
                for key, numbers in groups.items()
            )
            raise KdeltaError(
                f"{raw_dir / regime}: its blocks were measured in different guests, which cannot "
                f"be pooled ({told}); move the folders of the fewer away and measure these "
                "blocks again where the others were measured"
            )


def _facts(boot: RawBoot) -> dict[str, object]:
    gate = boot.boot.gate if boot.boot else None
    host = boot.host
    mode = host.acceleration.mode if host and host.acceleration else None
    return {
        "vCPUs": host.vcpus if host and host.vcpus is not None else gate and gate.vcpus,
        "memory in MiB": host.memory_mib if host else None,
        "acceleration": mode or (gate and gate.acceleration),
        "CPU model": host.acceleration.cpu or "by default" if host and host.acceleration else None,
    }


def _values(blocks: dict[int, dict[str, object]], name: str) -> set[object]:
    return {facts[name] for facts in blocks.values() if name in facts}
