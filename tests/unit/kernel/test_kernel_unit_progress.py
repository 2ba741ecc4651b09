# SPDX-License-Identifier: GPL-2.0-only
"""Progress: calm, honest about estimates, silent about what it does not know."""

from __future__ import annotations

import io

import pytest

from kdelta.progress import Progress, duration_text, status_text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def line(done: int, total: int | None, elapsed: float, about: bool = True, start: int = 0) -> str:
    return status_text("building x", done, total, "steps", elapsed, about=about, start=start)


def test_status_lines() -> None:
    assert line(500, 1000, 60) == "building x: 500 of about 1,000 steps, about 1 min 00 s left"
    assert line(500, 1000, 60, about=False).startswith("building x: 500 of 1,000 steps")
    assert line(1, 1000, 60) == "building x: 1 of about 1,000 steps"
    assert line(500, 1000, 1) == "building x: 500 of about 1,000 steps"
    assert line(7, None, 8) == "building x: 7 steps, 8 s so far"
    # an estimate that turned out too low is dropped, not defended
    assert line(1100, 1000, 60) == "building x: 1,100 steps, 1 min 00 s so far"


def test_what_was_done_before_does_not_count_as_speed() -> None:
    assert line(900, 1000, 10, start=800).endswith("about 10 s left")


def test_plain_lines_are_rare() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress("stage", 100, stream=stream, clock=clock) as progress:
        for second in range(1, 47):
            clock.now = second
            progress.update(second)
    lines = stream.getvalue().splitlines()
    assert [text.split(",")[0] for text in lines] == [
        "stage: 15 of 100 steps",
        "stage: 30 of 100 steps",
        "stage: 45 of 100 steps",
        "stage: done in 46 s",
    ]


def test_short_stages_are_silent_without_a_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress("stage", stream=stream, clock=clock) as progress:
        clock.now = 10
        progress.update()
    assert stream.getvalue() == ""


def test_a_failed_stage_is_not_done() -> None:
    clock, stream = Clock(), io.StringIO()

    def fail() -> None:
        with Progress("stage", stream=stream, clock=clock):
            clock.now = 100
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert stream.getvalue() == ""


def test_a_terminal_has_one_line() -> None:
    clock, stream = Clock(), Terminal()
    with Progress("stage", 10, stream=stream, clock=clock) as progress:
        clock.now = 1
        progress.advance(3)
    text = stream.getvalue()
    assert "stage: 3 of 10 steps" in text
    assert text.count("\n") == 1
    assert text.endswith("stage: done in 1 s\n")
