# SPDX-License-Identifier: GPL-2.0-only
"""Plain tables: nothing lost, whatever the width of the text or the length of the page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdelta.report.grid import Grid, Group
from kdelta.report.text_tables import format_grid

GRID = Grid(
    "Caption. More of it.",
    ("arm", "pages before the lock per write", "reason"),
    (
        Group("First", (("bulk", "8", "a short one"), ("loop", "16", "x " * 30 + "end"))),
        Group("", (("control", "0", ""),)),
    ),
    prose=frozenset({2}),
)


def test_columns_are_aligned_and_headings_folded() -> None:
    assert format_grid(GRID, 200).splitlines() == [
        "                  pages",
        "             before the",
        "               lock per",
        "    arm           write  reason",
        "  First:",
        "    bulk              8  a short one",
        "    loop             16  " + "x " * 30 + "end",
        "    control           0",
    ]


def test_words_are_folded_before_columns_are_parted() -> None:
    text = format_grid(GRID, 60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("arm") == 1
    assert " ".join(text.split()).count("x") == 30


def test_columns_that_do_not_fit_follow_below_with_their_labels() -> None:
    text = format_grid(GRID, 30)
    assert text.count("control") == 2
    assert text.count("  First:") == 2


@given(
    st.lists(
        st.lists(st.integers(0, 10**9).map(str), min_size=5, max_size=5), min_size=1, max_size=6
    ),
    st.integers(20, 120),
)
def test_every_value_survives_any_width(rows: list[list[str]], width: int) -> None:
    head = ("name", *(f"column number {n}" for n in range(4)))
    grid = Grid("C.", head, (Group("", tuple(map(tuple, rows))),))
    text = format_grid(grid, width)
    shown = sorted(word for word in text.split() if word.isdigit() and len(word) > 1)
    wanted = sorted(v for row in rows for v in row[1:] if len(v) > 1)
    for value in wanted:
        assert shown.count(value) >= wanted.count(value)
    widest = max(len(v) for row in rows for v in row)
    assert max(map(len, text.splitlines())) <= max(width, 4 + 2 * max(widest, 10) + 2)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(3, 20))
def test_pages_hold_every_row_once_in_order(sizes: list[int], per_page: int) -> None:
    groups = tuple(
        Group(f"group {i}", tuple((f"{i}-{n}", "1") for n in range(size)))
        for i, size in enumerate(sizes)
    )
    grid = Grid("Caption. More.", ("a", "b"), groups)
    pages = list(grid.pages(per_page))
    assert [row for page in pages for row in page.rows] == list(grid.rows)
    assert all(len(page.rows) <= per_page for page in pages)
    for page in pages[1:]:
        assert page.caption == "Caption, continued."
    assert all(group.heading for page in pages for group in page.groups)


def test_an_empty_grid_is_false() -> None:
    assert not Grid("C", ("a",), (Group("x", ()),))
    assert GRID
    assert list(Grid("C", ("a",), ()).pages()) == []


def test_columns_of_words_give_way_alike() -> None:
    """One of two must not be folded to rags beside the other; never at a hyphen, in a date."""
    rows = (("Written", "2026-11-23T11:17:15+00:00", "2026-11-23T09:53:00+00:00"),)
    rows += (("Image", "one two three four five six", "one two three four five six seven"),)
    grid = Grid("", ("what", "A", "B"), (Group("", rows),), prose=frozenset({1, 2}))
    lines = format_grid(grid, 68).splitlines()
    assert max(map(len, lines)) <= 68
    assert lines[1] == "    Written  2026-11-23T11:17:15+00:00   2026-11-23T09:53:00+00:00"
