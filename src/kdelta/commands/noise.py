# SPDX-License-Identifier: GPL-2.0-only
"""What `kdelta doctor` says of noise: how even the CPUs are, who uses them, what that allows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.host.doctor import DOUBT, Problem
from kdelta.measure.schedule import cells
from kdelta.measure.speed_series import SpeedSeries, measure_speed

Json = dict[str, Any]


def noise(experiment: Experiment | None, seconds: float) -> Json:
    """Measure this host for some seconds and forecast noise floors.

    Args:
        experiment: whose protocols are meant; None: no forecast.
        seconds: how long.

    Returns:
        `reason` alone if it could not be measured, else `measured_s`, `checks`, `check_ms`
        (unhindered), `slow_share`, `worst` (ratio to that), `other_cpu_share`, `steal_share`,
        `busiest` (name and share), `experiment` and `floors`: protocol, regime, `log_sd` (of a
        cell's log ratio), `floor` and `quiet_floor` as ratios minus 1 (null where the protocol
        has too few blocks for intervals).
    """
    try:
        series = measure_speed(seconds)
    except KdeltaError as error:
        return {"reason": str(error)}
    return {**_seen(series), **_forecast(experiment, series)}


def _seen(series: SpeedSeries) -> Json:
    import numpy as np

    from kdelta.analysis.forecast import steadiness

    steady = steadiness(np.array(series.wall_ns, dtype=float))
    return {
        "reason": None,
        "measured_s": round(series.ended_s[-1], 1),
        "checks": len(series.ended_s),
        "check_ms": round(steady.unhindered_ns / 1e6, 2),
        "slow_share": round(steady.slow_share, 4),
        "worst": round(steady.worst, 2),
        "other_cpu_share": round(series.host.other_share, 4),
        "steal_share": round(series.host.steal_share, 4),
        "busiest": [{"name": name, "share": round(s, 4)} for name, s in series.host.busiest],
    }


def _forecast(experiment: Experiment | None, series: SpeedSeries) -> Json:
    if experiment is None:
        return {"experiment": None, "floors": []}
    import numpy as np

    from kdelta.analysis.forecast import (
        QUIET_LOG_SD,
        forecast_floor,
        ratio_log_sd,
        window_log_sd,
    )
    from kdelta.analysis.inference import MIN_BLOCKS
    from kdelta.analysis.power import Design
    from kdelta.analysis.settings import AnalysisSettings

    ended_s, wall_ns = np.array(series.ended_s), np.array(series.wall_ns, dtype=float)
    statistics = experiment.statistics
    floors: list[Json] = []
    for name, protocol in experiment.protocols.items():
        design = Design(
            blocks=max(2, protocol.blocks),
            cells=len(cells(experiment)) * len(protocol.duration_s),
            confidence=statistics.confidence,
            margin=statistics.equivalence_margin,
        )
        for regime, duration_s in protocol.duration_s.items():
            log_sd = ratio_log_sd(window_log_sd(ended_s, wall_ns, duration_s))
            known = protocol.blocks >= MIN_BLOCKS
            floors.append(
                {
                    "protocol": name,
                    "regime": regime,
                    "log_sd": round(log_sd, 4),
                    **{
                        key: round(forecast_floor(sd, design, AnalysisSettings.power), 4)
                        if known
                        else None
                        for key, sd in (("floor", log_sd), ("quiet_floor", QUIET_LOG_SD))
                    },
                }
            )
    return {"experiment": experiment.name, "floors": floors}


def noise_rows(found: Json) -> tuple[str, list[tuple[str, str]]]:
    """A group of the report: title, then label and text of each row."""
    title = "Noise"
    if found["reason"]:
        return title, [("not measured", found["reason"])]
    named = ", ".join(f"{entry['name']} {entry['share']:.0%}" for entry in found["busiest"])
    rows = [
        (
            "CPU speed",
            f"{found['checks']} checks, unhindered {found['check_ms']:.1f} ms each, in "
            f"{found['measured_s']:g} s: {found['slow_share']:.1%} took a quarter longer or more, "
            f"the slowest {found['worst']:.1f} times as long",
        ),
        ("taken by others", f"{found['other_cpu_share']:.1%}" + (f" ({named})" if named else "")),
        ("stolen", f"{found['steal_share']:.1%}"),
    ]
    for protocol in dict.fromkeys(floor["protocol"] for floor in found["floors"]):
        own = [floor for floor in found["floors"] if floor["protocol"] == protocol]
        rows.append((f"floor of {protocol}", _floor_text(own)))
    if found["floors"]:
        rows.append(
            (
                "",
                "smallest effect of a cell likely to be found, a forecast: cells that spread by "
                "5 % as on a quiet host under emulation, and the CPUs' own unsteadiness now",
            )
        )
    return f"{title} (experiment {found['experiment']})" if found["experiment"] else title, rows


def _floor_text(floors: list[Json]) -> str:
    known = [floor["floor"] for floor in floors if floor["floor"] is not None]
    if not known:
        return "none: too few blocks for intervals"
    low, high = min(known), max(known)
    span = f"{high:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
    return f"about {span} (quiet: {floors[0]['quiet_floor']:.0%})"


def noise_problems(found: Json | None) -> list[Json]:
    """What of it makes numbers doubtful: CPUs that add more to a ratio's spread than cells do."""
    if not found or found["reason"] or not found["floors"]:
        return []
    from kdelta.analysis.forecast import QUIET_LOG_SD

    worst = max(floor["log_sd"] for floor in found["floors"])
    if worst**2 < 2 * QUIET_LOG_SD**2:
        return []
    named = ", ".join(entry["name"] for entry in found["busiest"])
    what = f"the CPUs' speed is uneven: a cell's ratio would spread by {worst:.0%}, quiet 5%"
    todo = (
        f"end {named}"
        if named
        else "a quieter time or host: nothing that could be seen from here takes the CPUs away"
    )
    return [asdict(Problem(DOUBT, what, todo))]
