# SPDX-License-Identifier: GPL-2.0-only
"""Two runs laid side by side: which arms, cells and blocks of them belong together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from kdelta.errors import KdeltaError
from kdelta.export.differences import Difference, Effects, Place, compare_cells, compare_overall
from kdelta.export.run_folder import RunFolder
from kdelta.export.run_setup import arm_facts, matrix_text, setup_differences
from kdelta.report.context import Metric, metrics_of
from kdelta.units import level_value

_EMPTY = hashlib.sha256(b"").hexdigest()

Labels = dict[Place, tuple[str, ...]]
"""Place -> the cell's levels as they are written, one per factor."""

Cell = tuple[str, ...]


@dataclass(frozen=True)
class RegimeRows:
    """One regime of one pair of arms: cells that both runs have, and all of them together."""

    regime: str
    title: str
    cells: tuple[tuple[Cell, Difference], ...]
    overall: Difference
    only_a: tuple[Cell, ...]
    only_b: tuple[Cell, ...]


@dataclass(frozen=True)
class ArmRows:
    """An arm of A beside an arm of B; `regimes` are those that both have cells of."""

    arm_a: str
    arm_b: str
    regimes: tuple[RegimeRows, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that is to be told of two runs.

    Attributes:
        a, b: the runs.
        metric: that is compared.
        factors: that a cell is told by.
        confidence: of all intervals; the stricter of the two experiments'.
        paired: whether both are the same measurements, so that blocks pair.
        setup: what differs: label, A's, B's.
        arms: pairs of arms.
        missing: whole sentences on what only one run has.
    """

    a: RunFolder
    b: RunFolder
    metric: Metric
    factors: tuple[str, ...]
    confidence: float
    paired: bool
    setup: tuple[tuple[str, str, str], ...]
    arms: tuple[ArmRows, ...]
    missing: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether the same measurements have the same effects: nothing is left to compare."""
        return self.paired and all(
            one.unchanged for arm in self.arms for rows in arm.regimes for _, one in rows.cells
        )


def compare_runs(
    a: RunFolder,
    b: RunFolder,
    *,
    arm_a: str | None = None,
    arm_b: str | None = None,
    metric: str | None = None,
) -> Comparison:
    """Lays B beside A.

    Args:
        a: a run.
        b: another, or the same again.
        arm_a: compare this arm of A only.
        arm_b: with this arm of B; one of the two stands for both. Without either, every arm
            is compared with the one of the same name.
        metric: one that both workloads have; None: the primary one of A's.

    Raises:
        KdeltaError: nothing in the two can be compared; the message says why.
    """
    chosen = _metric(a, b, metric)
    same = same_measurements(a, b)
    pairs = _arm_pairs(a, b, arm_a or arm_b, arm_b or arm_a)
    factors = tuple(dict.fromkeys([*a.factors, *b.factors]))
    confidence = max(run.experiment.statistics.confidence for run in (a, b))
    arms = tuple(
        _arm_rows(a, b, pair, chosen.name, factors, paired=same, confidence=confidence)
        for pair in pairs
    )
    if not any(rows.regimes for rows in arms):
        raise KdeltaError(
            f"{a.path} and {b.path} have no cell in common: "
            f"A has regimes {', '.join(a.regimes)} over {matrix_text(a)}, "
            f"B has regimes {', '.join(b.regimes)} over {matrix_text(b)}"
        )
    setup = setup_differences(a, b)
    setup += [
        (f"Arm {ours}" if ours == theirs else f"Arm {ours} / {theirs}", *facts)
        for ours, theirs in pairs
        if len(set(facts := (arm_facts(a, ours), arm_facts(b, theirs)))) > 1
    ]
    return Comparison(
        a=a,
        b=b,
        metric=chosen,
        factors=factors,
        confidence=confidence,
        paired=same,
        setup=tuple(setup),
        arms=arms,
        missing=tuple(_missing(a, b, named=bool(arm_a or arm_b))),
    )


def _metric(a: RunFolder, b: RunFolder, name: str | None) -> Metric:
    """The metric that is compared.

    Raises:
        KdeltaError: one of the workloads does not have it.
    """
    ours, theirs = ({m.name: m for m in metrics_of(run.workload)} for run in (a, b))
    common = [one for one in ours if one in theirs]
    if not common:
        raise KdeltaError(
            f"{a.path} and {b.path} have no metric in common: A has {', '.join(ours)}, B has "
            f"{', '.join(theirs)}"
        )
    if name is not None and name not in common:
        raise KdeltaError(
            f"--metric {name}: the runs do not both have it; they have {', '.join(common)}"
        )
    return ours[name or common[0]]


def same_measurements(a: RunFolder, b: RunFolder) -> bool:
    """Whether both folders hold the same raw files, wherever they lie.

    Raises:
        KdeltaError: they share some of them only, so that they are neither independent of
            each other nor the same.
    """
    ours, theirs = (_samples_files(run) for run in (a, b))
    if not ours or not theirs:
        return a.run_id == b.run_id
    if ours == theirs:
        return True
    shared = set(ours.values()) & set(theirs.values())
    if shared:
        raise KdeltaError(
            f"{a.path} and {b.path} share {len(shared)} of their raw files: an interval would "
            "take the same measurement for two. Compare runs that share none, or two arms of "
            "one run (give the same folder twice, with --arm-a and --arm-b)"
        )
    return False


def _samples_files(run: RunFolder) -> dict[str, str]:
    """Path -> hash of the files that hold samples; boots without any are all alike."""
    hashes: dict[str, str] = run.manifest.get("raw_sha256", {})
    return {
        path: value
        for path, value in hashes.items()
        if path.startswith("raw/") and path.endswith(".jsonl") and value != _EMPTY
    }


def _arm_pairs(
    a: RunFolder, b: RunFolder, arm_a: str | None, arm_b: str | None
) -> list[tuple[str, str]]:
    if arm_a is not None and arm_b is not None:
        for option, run, arm in (("--arm-a", a, arm_a), ("--arm-b", b, arm_b)):
            if arm not in _compared(run):
                what = (
                    f"the baseline of {run.path}, which has no delta; its other arms"
                    if arm == run.experiment.baseline
                    else f"not an arm of {run.path}; its arms with a delta"
                )
                raise KdeltaError(f"{option} {arm}: {what} are {', '.join(_compared(run))}")
        return [(arm_a, arm_b)]
    common = [(arm, arm) for arm in _compared(a) if arm in _compared(b)]
    if not common:
        raise KdeltaError(
            f"{a.path} and {b.path} have no arm of the same name (A: {', '.join(_compared(a))}; "
            f"B: {', '.join(_compared(b))}); name one of each with --arm-a and --arm-b"
        )
    return common


def _compared(run: RunFolder) -> list[str]:
    return [arm for arm in run.experiment.booted_arms() if arm != run.experiment.baseline]


def _arm_rows(
    a: RunFolder,
    b: RunFolder,
    pair: tuple[str, str],
    metric: str,
    factors: tuple[str, ...],
    *,
    paired: bool,
    confidence: float,
) -> ArmRows:
    ours, labels_a = read_effects(a, pair[0], metric, factors)
    theirs, labels_b = read_effects(b, pair[1], metric, factors)
    places = [place for place in labels_a if place in labels_b]
    # The family of tests is the arm's, over all regimes, as in the delta tables.
    found = compare_cells(ours, theirs, places, paired=paired, confidence=confidence)
    by_place = dict(zip(places, found, strict=True))
    regimes = []
    for regime, title in a.regimes.items():
        here = [place for place in places if place[0] == regime]
        if not here:
            continue
        regimes.append(
            RegimeRows(
                regime=regime,
                title=title,
                cells=tuple((labels_a[place], by_place[place]) for place in here),
                overall=compare_overall(ours, theirs, here, paired=paired, confidence=confidence),
                only_a=_only(regime, labels_a, labels_b),
                only_b=_only(regime, labels_b, labels_a),
            )
        )
    return ArmRows(*pair, tuple(regimes))


def _only(regime: str, mine: Labels, others: Labels) -> tuple[Cell, ...]:
    places: Iterable[Place] = (place for place in mine if place not in others)
    return tuple(mine[place] for place in places if place[0] == regime)


def _missing(a: RunFolder, b: RunFolder, *, named: bool) -> list[str]:
    told = []
    for what, ours, theirs in (
        ("regime", list(a.regimes), list(b.regimes)),
        ("arm", [] if named else _compared(a), [] if named else _compared(b)),
    ):
        for name, mine, others in (("A", ours, theirs), ("B", theirs, ours)):
            alone = [one for one in mine if one not in others]
            if alone:
                plural = "s" if len(alone) > 1 else ""
                told.append(f"Only in {name}: {what}{plural} {', '.join(alone)}.")
    return told


def read_effects(
    run: RunFolder, arm: str, metric: str, factors: Sequence[str]
) -> tuple[Effects, Labels]:
    """The effects of an arm, from tables/deltas.csv and tables/ratios.csv.

    Args:
        run: the run.
        arm: one of its arms, not the baseline.
        metric: a column of samples.csv that has deltas.
        factors: that a cell is told by; those that this run's matrix has not are filled in
            from its workload's arguments, the same in every cell.

    Raises:
        KdeltaError: a table is missing or of another version.
    """
    deltas = _rows(run, "tables/deltas.csv", arm, metric, ("blocks", "set_aside", "verdict"))
    ratios = _rows(run, "tables/ratios.csv", arm, metric, ("block", "ratio"))
    places = _places(run, deltas, factors)
    blocks: dict[Place, dict[int, float]] = {place: {} for place in places}
    for place, block, ratio in zip(
        _places(run, ratios, factors), ratios["block"], ratios["ratio"], strict=True
    ):
        blocks.setdefault(place, {})[int(block)] = math.log(float(ratio))
    used = [int(a) + int(b) for a, b in zip(deltas["blocks"], deltas["set_aside"], strict=True)]
    spoilt = (deltas["verdict"] == "invalid").tolist()
    effects = Effects(
        blocks=blocks,
        planned=dict(zip(places, used, strict=True)),
        invalid=frozenset(p for p, bad in zip(places, spoilt, strict=True) if bad),
    )
    return effects, dict(zip(places, _labels(run, deltas, factors), strict=True))


def _rows(
    run: RunFolder, name: str, arm: str, metric: str, columns: tuple[str, ...]
) -> pd.DataFrame:
    frame = run.table(name)
    for column in ("regime", "arm", "metric", *run.factors, *columns):
        if column not in frame:
            raise KdeltaError(
                f"{run.path / name}: column {column} is missing; "
                "the file is from another version: run the analysis again"
            )
    return frame[(frame["arm"] == arm) & (frame["metric"] == metric)]


def _places(run: RunFolder, frame: pd.DataFrame, factors: Sequence[str]) -> list[Place]:
    cells = _labels(run, frame, factors)
    return [
        (regime, tuple(level_value(level) for level in cell))
        for regime, cell in zip(frame["regime"], cells, strict=True)
    ]


def _labels(run: RunFolder, frame: pd.DataFrame, factors: Sequence[str]) -> list[tuple[str, ...]]:
    columns = [
        frame[factor].tolist() if factor in run.factors else [_fixed(run, factor)] * len(frame)
        for factor in factors
    ]
    return list(zip(*columns, strict=True))


def _fixed(run: RunFolder, factor: str) -> str:
    """The level of a factor that this run does not vary."""
    parameter = run.workload.parameters.get(factor)
    default = parameter.default if parameter else None
    value = run.experiment.workload.arguments.get(factor, default)
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value)
