# SPDX-License-Identifier: GPL-2.0-only
"""Whether the host was quiet, and the noise floor beside each answer, in every output."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from report_cases import ASSETS, Case, render
from report_synthetic import FLAGSHIP

from kdelta.report.disturbance import HostState, host_state
from kdelta.report.macros import Names, macros
from kdelta.report.text import render_text

HOG = (
    *(("idle", 2, "patched", (1, 1), rule) for rule in ("cpu-speed", "host-other-cpu")),
    ("memory-pressure", 3, "control", (2, 5), "cpu-speed"),
)
LINE = (
    "The host was disturbed in 2 of 24 boots: other programs took up to 38% of its CPUs; CPUs ran "
    "at down to 45% of their speed"
)


@pytest.fixture(scope="module")
def hogged(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return render(replace(FLAGSHIP, broken=HOG), tmp_path_factory.mktemp("hog"), figures=False)


def state(case: Case, **columns: object) -> HostState:
    """Of a case whose table of disturbances has some columns replaced."""
    table = case.frames.disturbance.assign(**columns)
    return host_state(case.run.with_tables(disturbance=table))


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_disturbed_run_says_so_first_with_its_worst_values(hogged: Case) -> None:
    found = host_state(hogged.run)
    assert found.disturbed == LINE
    assert found.details == (
        "No memory pressure: 1 of 12 boots (host-other-cpu 1 and cpu-speed 1), 1 sample set aside. "
        "81% of the variance of all ratios went with the speed of the CPUs, and is taken out.",
        "Under memory pressure: 1 of 12 boots (cpu-speed 1), 1 sample set aside. "
        "81% of the variance of all ratios went with the speed of the CPUs, and is taken out.",
    )
    text = words(hogged.text)
    assert text.index(LINE) < text.index(" Answer: ")
    assert "Host: disturbed in 2 of 24 boots." in text


def test_a_quiet_run_says_that_it_was_checked_in_one_line(measured: Case) -> None:
    found = host_state(measured.run)
    assert not found.flagged
    assert (found.weakness, found.but) == ("", "")
    line = "quiet in all 24 boots"
    assert f"Host: {line}." in words(measured.text.split("Answer:")[0])
    assert f"<dt>Host</dt><dd>{line}</dd>" in measured.html
    assert f"Host: {line}." in words(measured.tex)


def test_slow_cpus_are_said_where_no_rule_was_broken(measured: Case) -> None:
    table = measured.frames.disturbance
    first = table.index == table.index[0]
    found = state(
        measured,
        boots_slow=(5 * first).tolist(),
        boots_disturbed=(5 * first).tolist(),
        relative_speed_lowest=0.7,
        speed_variance_share=0.56,
    )
    assert found.line == "disturbed in 5 of 24 boots"
    assert found.disturbed.endswith("5 of 24 boots: CPUs ran at down to 70% of their speed")
    assert found.details == (
        "No memory pressure: 5 of 12 boots (slow CPUs 5), 0 samples set aside. "
        "56% of the variance of all ratios went with the speed of the CPUs, and is taken out.",
    )


def test_a_run_without_a_check_says_that(measured: Case) -> None:
    found = state(measured, samples_checked=0)
    assert found.line == "no disturbance seen in 24 boots, CPU speed not checked"
    assert found.weakness.startswith("The data has no speed check")
    assert state(measured, samples_checked=100).weakness == "16 of 216 samples have no speed check."


def test_a_spread_that_nothing_explains_does_not_stand_behind_passed_rules(measured: Case) -> None:
    wide = {"control_spread_percent": 35.0, "times_quiet": 7.0, "unexplained": True}
    table = measured.frames.disturbance.assign(samples_checked=0, **wide)
    run = measured.run.with_tables(disturbance=table)
    text = words(render_text(run, ASSETS))
    spread = "control's cells spread by up to 35.0% from block to block, 7.0 times as much as on a"
    assert text.index(f"! The {spread} quiet host") < text.index(" Answer: ")
    assert f"passed every rule. But the {spread} quiet host." in text
    assert "Host: nothing seen in 24 boots, but the control spreads too much." in text


@pytest.mark.parametrize("rule", ["host-steal", "guest-steal", "host-load"])
def test_other_disturbances_have_words_of_their_own(measured: Case, rule: str) -> None:
    column = f"boots_{rule.replace('-', '_')}"
    found = state(measured, boots_disturbed=2, **{column: 2})
    told = "was loaded before 4 boots" if rule == "host-load" else "a hypervisor took up to <1%"
    assert told in found.disturbed


def test_a_table_without_rows_says_nothing(measured: Case) -> None:
    empty = measured.run.with_tables(disturbance=measured.frames.disturbance.iloc[:0])
    found = host_state(empty)
    assert (found.sentence, found.flagged, found.weakness) == ("", False, "")


def test_the_noise_floor_stands_beside_each_answer(measured: Case) -> None:
    control = measured.frames.control
    for regime in measured.run.regimes:
        rows = control[(control["regime"] == regime.name)]
        (floor,) = rows.loc[rows["metric"] == "throughput_mib_s", "noise_floor_percent"]
        told = f"noise floor of a cell {floor:.1f}%"
        answer = measured.text.partition("Answer:")[2].partition("What weakens it:")[0]
        assert re.search(rf"{re.escape(regime.title)}:\n +patched .* {floor:.1f}%\n", answer)
        assert f"], {told} (95" in words(measured.html)
        name = Names(measured.run.metrics).noise_floor(regime.name, "throughput_mib_s")
        assert f"], noise floor of a cell \\{name}{{}} (95" in words(measured.tex)
        bodies = {macro.name: macro.body for macro in macros(measured.run)}
        assert bodies[name] == f"{floor:.1f}\\%"


def test_without_a_control_no_answer_has_a_noise_floor(measured: Case) -> None:
    arms = tuple(arm for arm in measured.run.arms if not arm.is_control)
    run = replace(measured.run, arms=arms).with_tables(control=measured.frames.control.iloc[:0])
    text = render_text(run, ASSETS)
    answer = text.partition("Answer:")[2].partition("What weakens it:")[0]
    assert "unknown" in answer
    assert not re.search(r"[0-9]%\n", answer.partition("noise floor\n")[2])
