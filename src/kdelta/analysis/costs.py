# SPDX-License-Identifier: GPL-2.0-only
"""What an arm costs beside its gain: its kernel's size, and memory in use after boot.

Sizes are facts of two files and have no uncertainty. Memory is measured: once in each boot,
before anything runs, and compared within blocks like everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.inference import MIN_BLOCKS, t_interval
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of
from kdelta.earlier_runs import image_record

Json = Mapping[str, Any]
Row = dict[str, object]

MEMORY = "memory_used"
COUNTED = {"symbols": "symbols_changed", "stack": "stack_changed"}


def costs_frame(boots: Sequence[RawBoot], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per arm and quantity: columns of tables/costs.csv; none of what was not recorded.

    Args:
        boots: every planned boot.
        settings: names and order, and what the manifest says of the kernels.
    """
    rows: list[Row] = []
    for arm in settings.compared_arms:
        base = settings.kernels.get(settings.baseline, {})
        ours = base if arm == settings.control else settings.kernels.get(arm, {})
        same = bool(ours) and ours.get("key") == base.get("key")
        found = [] if arm == settings.control else [*_sizes(base, ours), *_counts(ours)]
        found += _memory(boots, arm, settings)
        rows += [{"arm": arm, "same_kernel": same, **row} for row in found]
    return frame_of("tables/costs.csv", rows)


def symbols_frame(settings: AnalysisSettings) -> pd.DataFrame:
    """One row per arm and symbol whose size differs: columns of tables/symbols.csv."""
    changes = (
        (arm, change)
        for arm in settings.compared_arms
        for kind in COUNTED
        for change in _changes(settings.kernels.get(arm, {}), kind).get("largest", ())
    )
    return frame_of(
        "tables/symbols.csv",
        (
            {
                "arm": arm,
                "kind": change["kind"],
                "symbol": change["name"],
                "baseline_bytes": change["baseline"],
                "bytes": change["arm"],
                "change_bytes": (change["arm"] or 0) - (change["baseline"] or 0),
            }
            for arm, change in changes
        ),
    )


def _changes(image: Json, kind: str) -> Json:
    found: Json = image.get("costs", {}).get(kind, {})
    return found


def _sizes(base: Json, ours: Json) -> Iterator[Row]:
    """Of vmlinux and of the file that is booted, where both kernels' records have them."""
    for name, size in _weights(base).items():
        if (other := _weights(ours).get(name)) is not None:
            yield {"quantity": name, "unit": "B", **_change(size, other)}
    if summed := _changes(ours, "symbols").get("bytes"):
        yield {"quantity": "symbols", "unit": "B", **_change(summed["baseline"], summed["arm"])}


def _weights(image: Json) -> dict[str, int]:
    sizes, known = dict(image.get("sizes", {})), image_record(image)
    return sizes | ({"image": known["image_bytes"]} if "image_bytes" in known else {})


def _counts(ours: Json) -> Iterator[Row]:
    for kind, quantity in COUNTED.items():
        if found := _changes(ours, kind):
            yield {"quantity": quantity, "unit": "", "value": found["count"]}


def _memory(boots: Sequence[RawBoot], arm: str, settings: AnalysisSettings) -> Iterator[Row]:
    used = {
        (boot.arm, boot.block): boot.boot.gate.memory_used_kib
        for boot in boots
        if boot.regime == settings.memory_regime and boot.boot is not None
    }
    pairs = [
        (base, ours)
        for (name, block), base in sorted(used.items())
        if name == settings.baseline
        and base is not None
        and (ours := used.get((arm, block))) is not None
    ]
    if not pairs:
        return
    base, ours = np.array(pairs, dtype=float).T
    row: Row = {"quantity": MEMORY, "unit": "KiB", "blocks": len(pairs)}
    row |= _change(float(base.mean()), float(ours.mean()))
    if len(pairs) >= MIN_BLOCKS:
        found = t_interval(ours - base, settings.confidence)
        row |= {"change_low": float(found.low), "change_high": float(found.high)}
    yield row


def _change(base: float, ours: float) -> Row:
    return {
        "baseline": base,
        "value": ours,
        "change": ours - base,
        "change_percent": 100 * (ours / base - 1) if base > 0 else math.nan,
    }
