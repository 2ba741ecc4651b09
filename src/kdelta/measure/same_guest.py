# SPDX-License-Identifier: GPL-2.0-only
"""What `auto` comes to stays the same over the blocks of a regime.

How many vCPUs a guest gets is known only where it is started: a run that goes on under taskset,
in another cgroup or on another node would pool other guests with those that there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError

Json = dict[str, Any]

_WORDS = {
    "vcpus": "{} vCPUs",
    "memory_mib": "{} MiB of memory",
    "acceleration": "acceleration {}",
    "cpu": "CPU model {}",
}


def guest_of(host: Json) -> Json:
    """What a block's host.json says of its guests."""
    acceleration = host.get("acceleration") or {}
    return {
        "vcpus": host.get("vcpus"),
        "memory_mib": host.get("memory_mib"),
        "acceleration": acceleration.get("mode"),
        "cpu": acceleration.get("cpu") or "by default",
    }


def require_same_guest(out: Path, key: str, guest: Json) -> None:
    """Check that the finished blocks beside this one were measured in such guests.

    Args:
        out: the block's folder, `raw/<regime>/block-NNN`.
        key: of the regime's settings; a block with another one is to be measured again anyway.
        guest: as `guest_of` gives it.

    Raises:
        KdeltaError: they were not.
    """
    others: dict[str, list[str]] = {}
    here = ""
    for file in sorted(out.parent.glob("block-*/host.json")):
        if file.parent == out:
            continue
        try:
            host = json.loads(file.read_text())
        except (OSError, ValueError):
            continue  # the analysis says what is wrong with it
        found = guest_of(host)
        if host.get("key") == key and found != guest:
            here = here or _words(guest, found)
            others.setdefault(_words(found, guest), []).append(file.parent.name)
    if others:
        told = "; ".join(f"{', '.join(names)}: {what}" for what, names in others.items())
        raise KdeltaError(
            f"{out}: a guest here has {here}, but other blocks of "
            f"{out.parent.name} were measured in other guests ({told}), and their results cannot "
            "be pooled. Go on where those were measured (with as many CPUs: no taskset, the same "
            f"kind of node), or delete {out.parent} to measure all of it here"
        )


def _words(guest: Json, other: Json) -> str:
    """In what it differs from another one."""
    return ", ".join(
        words.format(guest[name]) for name, words in _WORDS.items() if guest[name] != other[name]
    )
