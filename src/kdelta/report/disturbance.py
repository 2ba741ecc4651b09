# SPDX-License-Identifier: GPL-2.0-only
"""Whether the host was quiet: one line for every output's first screen, and what is behind it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import ReportContext
from kdelta.report.formatting import Row, format_share, join_words, plural
from kdelta.report.frames import number
from kdelta.report.results import Results
from kdelta.report.sentences import magnitude
from kdelta.schema import DISTURBANCE_RULES

_WORTH_A_WORD = 0.1
"""Share of the variance from which it is said that the CPUs' speed explained it."""
_NO_CHECK = (
    "The data has no speed check: a disturbance from below the hypervisor would be seen by nothing "
    "but the spread of the control."
)


@dataclass(frozen=True)
class HostState:
    """What is said of the host; plain text without a full stop unless it is a sentence.

    Attributes:
        line: in a few words, ``quiet in all 80 boots``; empty without any boot.
        disturbed: headline of the warning, empty if no boot was.
        details: sentences on that, regime by regime.
        spread: headline on a spread that nothing explains; empty if there is none.
        spread_details: sentences on that.
        weakness: a sentence on what was not checked; empty if all was.
    """

    line: str
    disturbed: str
    details: tuple[str, ...]
    spread: str
    spread_details: tuple[str, ...]
    weakness: str

    @property
    def flagged(self) -> bool:
        """Whether anything is to be held against the host."""
        return bool(self.disturbed or self.spread)

    @property
    def but(self) -> str:
        """What must stand beside the sentence that every sample passed every rule; may be empty."""
        if self.spread:
            return f"But {self.spread[0].lower()}{self.spread[1:]}."
        return self.weakness

    @property
    def sentence(self) -> str:
        """The line as a sentence of its own."""
        return f"Host: {self.line}." if self.line else ""


def host_state(run: Results) -> HostState:
    """What the run's table of disturbances comes to."""
    table = run.frames.disturbance
    boots, hit = (int(table[c].sum()) for c in ("boots", "boots_disturbed"))
    samples, checked = (int(table[c].sum()) for c in ("samples_run", "samples_checked"))
    disturbed = ""
    if hit:
        told = "; ".join(_what(table))
        disturbed = f"The host was disturbed in {hit} of {plural(boots, 'boot')}: {told}"
    spread, spread_details = _spread(table, run, checked)
    return HostState(
        line=_line(boots, hit, checked, bool(spread)),
        disturbed=disturbed,
        details=tuple(_regime(run, row) for row in _rows(table[table["boots_disturbed"] > 0])),
        spread=spread,
        spread_details=spread_details,
        weakness=_unchecked(samples, checked),
    )


def _line(boots: int, hit: int, checked: int, spread: bool) -> str:
    if not boots:
        return ""
    if hit:
        return f"disturbed in {hit} of {plural(boots, 'boot')}"
    if spread:
        return f"nothing seen in {plural(boots, 'boot')}, but the control spreads too much"
    if not checked:
        return f"no disturbance seen in {plural(boots, 'boot')}, CPU speed not checked"
    return f"quiet in all {plural(boots, 'boot')}"


def _what(table: pd.DataFrame) -> list[str]:
    """What was seen at its worst, by the rules that were broken."""
    count = {
        rule: int(table[f"boots_{rule.replace('-', '_')}"].sum()) for rule in DISTURBANCE_RULES
    }
    found = []
    if count["host-other-cpu"]:
        share = format_share(table["other_cpu_highest"].max())
        found.append(f"other programs took up to {share} of its CPUs")
    if count["host-steal"] or count["guest-steal"]:
        share = format_share(table["steal_highest"].max())
        found.append(f"a hypervisor took up to {share} of the CPU time")
    if count["cpu-speed"] or table["boots_slow"].sum():
        speed = format_share(table["relative_speed_lowest"].min())
        found.append(f"CPUs ran at down to {speed} of their speed")
    if count["host-load"]:
        found.append(f"it was loaded before {plural(count['host-load'], 'boot')}")
    return found


def _regime(context: ReportContext, row: Row) -> str:
    counts = {
        rule: int(number(row[f"boots_{rule.replace('-', '_')}"])) for rule in DISTURBANCE_RULES
    }
    counts["slow CPUs"] = int(number(row["boots_slow"]))
    rules = join_words(f"{rule} {count}" for rule, count in counts.items() if count)
    hit, boots = (int(number(row[c])) for c in ("boots_disturbed", "boots"))
    aside = plural(int(number(row["samples_disturbed"])), "sample")
    return (
        f"{context.regime_title(str(row['regime']))}: {hit} of {plural(boots, 'boot')} ({rules}), "
        f"{aside} set aside.{_variance(row)}"
    )


def _variance(row: Row) -> str:
    share = number(row["speed_variance_share"])
    if not share >= _WORTH_A_WORD:  # false for NaN too
        return ""
    return (
        f" {format_share(share)} of the variance of all ratios went with the speed of the CPUs, "
        "and is taken out."
    )


def _spread(
    table: pd.DataFrame, context: ReportContext, checked: int
) -> tuple[str, tuple[str, ...]]:
    wide = table[table["unexplained"]]
    if wide.empty:
        return "", ()
    headline = (
        f"The control's cells spread by up to {magnitude(wide['control_spread_percent'].max())} "
        f"from block to block, {wide['times_quiet'].max():.1f} times as much as on a quiet host"
    )
    where = join_words(
        f"{magnitude(row['control_spread_percent'])} ({context.regime_title(str(row['regime']))})"
        for row in _rows(wide)
    )
    why = "" if checked else " CPU speed was not checked."
    return headline, (
        f"Standard deviation of a cell's log ratio, control against baseline: {where}. No rule "
        f"explains it: something disturbed the run unseen, or the workload itself varies.{why}",
    )


def _unchecked(run: int, checked: int) -> str:
    if not run or checked == run:
        return ""
    if not checked:
        return _NO_CHECK
    return f"{run - checked} of {plural(run, 'sample')} have no speed check."


def _rows(table: pd.DataFrame) -> list[Row]:
    return [dict(row) for row in table.to_dict("records")]
