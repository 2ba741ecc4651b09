# SPDX-License-Identifier: GPL-2.0-only
"""Experiments of earlier versions: in runs, read as this version writes them; in files, refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

Json = dict[str, Any]

_PROGRAM = "pipe_bench"  # what an experiment measured that named nothing
_MOVED_LIMITS = ("identity_error", "identity_overhead_ns")


def upgraded(experiment: Mapping[str, Any]) -> Json:
    """An experiment of a run, of whatever version, as this version's files have it.

    Args:
        experiment: as the manifest holds it.
    """
    if experiment.get("schema") != 1:
        return dict(experiment)
    found = {**experiment, "schema": 2}
    if "variants" in found:
        found["arms"] = found.pop("variants")
    workload = dict(found.pop("workload", {}))
    if isinstance(found.get("validity"), dict):
        validity = dict(found["validity"])
        moved = {key: validity.pop(key) for key in _MOVED_LIMITS if key in validity}
        if moved:
            workload["limits"] = moved
        found["validity"] = validity
    program = workload.pop("program", _PROGRAM)
    if "matrix" in found:
        workload["matrix"] = found.pop("matrix")
    found["workloads"] = {program: workload}
    if isinstance(found.get("mail"), dict) and "variant" in found["mail"]:
        mail = dict(found["mail"])
        found["mail"] = {"arm": mail.pop("variant"), **mail}
    return found


def declarations(manifest: Mapping[str, Any]) -> Json:
    """What the workloads of a run declared at its time, by their folder's name, as far as known."""
    if "workloads" in manifest:
        return dict(manifest["workloads"])
    declaration = (manifest.get("workload") or {}).get("declaration")
    return {_program_of(manifest): declaration} if declaration else {}


def programs(manifest: Mapping[str, Any]) -> dict[str, Json]:
    """What is known of the programs that ran in a run's guests, by their workload's folder."""
    if "programs" in manifest:
        return dict(manifest["programs"])
    known = {k: v for k, v in (manifest.get("workload") or {}).items() if k != "declaration"}
    return {_program_of(manifest): known} if known else {}


def image_record(image: Mapping[str, Any]) -> Json:
    """A kernel's image.json, with what its file was called before there were others than x86's."""
    names = {"bzimage_sha256": "image_sha256", "bzimage_bytes": "image_bytes"}
    return {names.get(name, name): value for name, value in image.items()}


def _program_of(manifest: Mapping[str, Any]) -> str:
    return str((manifest["experiment"].get("workload") or {}).get("program", _PROGRAM))


def advice(data: Mapping[str, Any]) -> str:
    """What the author of a file of schema 1 is told: the lines to change.

    Args:
        data: what was read from it.
    """
    now = upgraded(data)
    lines = ["schema: 1 is the format of an earlier version. Change these lines:", "  schema: 2"]
    if "variants" in data:
        lines += ["and the key `variants:` to", "  arms:"]
    if isinstance(data.get("mail"), dict) and "variant" in data["mail"]:
        lines += ["and in `mail:` the key `variant:` to", "  arm:"]
    gone = [key for key in ("workload", "matrix") if key in data]
    gone += [f"validity.{key}" for key in _MOVED_LIMITS if key in (data.get("validity") or {})]
    text = yaml.safe_dump({"workloads": now["workloads"]}, sort_keys=False, width=90)
    lines.append(f"and {', '.join(f'`{key}:`' for key in gone)} to" if gone else "and add")
    return "\n".join([*lines, *(f"  {line}" for line in text.splitlines())])
