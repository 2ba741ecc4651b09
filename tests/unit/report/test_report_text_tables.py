# SPDX-License-Identifier: GPL-2.0-only
"""Tables in a mail: within 78 columns wherever they can be, aligned always, nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdelta.mail.cover import WIDTH
from kdelta.report.context import Arm, Factor, Regime
from kdelta.report.tables import Cell, DeltaTable
from kdelta.report.text_tables import form_of, format_table
from tests.workloads import THROUGHPUT


def format_tables(tables: list[DeltaTable]) -> list[str]:
    lines = form_of(tables, WIDTH, (1, 2, 3), "  ")
    return [format_table(table, WIDTH, lines, "  ") for table in tables]


def percent(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}"


@st.composite
def cells(draw: st.DrawFn, decimals: int) -> Cell:
    kind = draw(st.sampled_from(["measured"] * 8 + ["missing", "invalid"]))
    if kind == "missing":
        return Cell("", "", measured=False)
    if kind == "invalid":
        return Cell("", "", measured=False, verdict="invalid", mark="x", set_aside=3)
    low, delta, high = sorted(draw(st.lists(st.floats(-90, 400), min_size=3, max_size=3)))
    value = st.integers(0, 10**7).map(str)
    return Cell(
        row="",
        column="",
        measured=True,
        baseline=draw(value),
        value=draw(value),
        delta=f"{percent(delta, decimals)}%",
        interval=f"[{percent(low, decimals)}, {percent(high, decimals)}]",
        verdict="faster",
        mark=draw(st.sampled_from("+-=~")),
        blocks=5,
        short_of_blocks=draw(st.booleans()),
    )


@st.composite
def tables(draw: st.DrawFn, most: int = 8) -> DeltaTable:
    decimals = draw(st.integers(0, 1))
    columns = draw(st.integers(1, most))
    rows = draw(st.integers(1, 5))
    return make_table([[draw(cells(decimals)) for _ in range(columns)] for _ in range(rows)])


def make_table(rows: list[list[Cell]], column_factor: bool = True) -> DeltaTable:
    return DeltaTable(
        regime=Regime("idle", "No memory pressure"),
        metric=THROUGHPUT,
        arm=Arm("patched", "patched"),
        row_factor=Factor("writers", "writers"),
        column_factor=Factor("readers", "readers") if column_factor else None,
        extra=(),
        columns=tuple(str(number + 1) for number in range(len(rows[0]))),
        rows=tuple(
            tuple(
                Cell(**{**vars(cell), "row": str(r + 1), "column": str(c + 1)})
                for c, cell in enumerate(row)
            )
            for r, row in enumerate(rows)
        ),
    )


def measured(baseline: str, value: str, delta: str, interval: str, mark: str = "+") -> Cell:
    return Cell("", "", True, baseline, value, delta, interval, "faster", mark, 5)


def blocks_of(text: str) -> list[list[str]]:
    return [part.split("\n") for part in text.split("\n\n")]


@given(st.lists(tables(), min_size=1, max_size=3))
def test_no_line_is_wider_than_a_mail(made: list[DeltaTable]) -> None:
    # A single column of these sizes always fits, so that every table can.
    for text in format_tables(made):
        assert max(map(len, text.split("\n"))) <= WIDTH


@given(tables())
def test_columns_are_aligned(table: DeltaTable) -> None:
    for head, *lines in blocks_of(format_tables([table])[0]):
        starts = [head.index(word) for word in head.split()[1:]]
        edge = head.index("writers") + len("writers")
        for line in lines:
            # The row's label ends where its heading does.
            assert line[:edge].strip() == line.strip().split(" ")[0] or not line[:edge].strip()
            for start in starts:
                # Between two columns, and between the label and the first, only blanks.
                assert line[start - 2 : start].strip() == ""


@given(tables())
def test_every_cell_is_there_with_all_it_says(table: DeltaTable) -> None:
    text = format_tables([table])[0]
    words = " ".join(text.split())
    for cell in table.cells:
        parts = (cell.baseline, cell.value, cell.delta, cell.interval) if cell.measured else ()
        assert all(part in words for part in parts)
    assert text.count("missing") == sum(not c.measured and not c.invalid for c in table.cells)
    assert text.count("x invalid") == sum(c.invalid for c in table.cells)
    assert text.count("->") == sum(c.measured for c in table.cells)


@given(st.lists(tables(most=4), min_size=2, max_size=3))
def test_tables_of_one_letter_share_one_form(made: list[DeltaTable]) -> None:
    def lines_per_row(text: str, table: DeltaTable) -> set[int]:
        rows = [b for b in blocks_of(text) if any("->" in line for line in b)]
        full = [b for b in rows if all(c.measured for c in table.cells)]
        return {(len(block) - 1) // len(table.rows) for block in full}

    texts = format_tables(made)
    forms = set().union(*(lines_per_row(x, t) for x, t in zip(texts, made, strict=True)))
    assert len(forms) <= 1


def test_the_cover_letters_form_where_it_fits() -> None:
    row = [
        measured("1119", "1354", "+21%", "[+18, +24]"),
        measured("990", "1195", "+6%", "[+1, +9]", "~"),
    ]
    assert format_tables([make_table([row])]) == [
        "  writers  readers=1                         readers=2\n"
        "        1  1119 -> 1354 (+21% [+18, +24]) +  990 -> 1195 (+6% [+1, +9]) ~"
    ]


def test_two_lines_where_one_is_too_wide() -> None:
    row = [measured("1119", "1354", "+21%", "[+18, +24]") for _ in range(3)]
    assert format_tables([make_table([row])]) == [
        "  writers  readers=1          readers=2          readers=3\n"
        "        1  1119 -> 1354       1119 -> 1354       1119 -> 1354\n"
        "           +21% [+18, +24] +  +21% [+18, +24] +  +21% [+18, +24] +"
    ]


def test_three_lines_where_two_are_too_wide() -> None:
    row = [measured("111900", "135400", "+21.5%", "[+18.1, +124.2]") for _ in range(3)]
    assert format_tables([make_table([row])]) == [
        "  writers  readers=1         readers=2         readers=3\n"
        "        1  111900 -> 135400  111900 -> 135400  111900 -> 135400\n"
        "           +21.5% +          +21.5% +          +21.5% +\n"
        "           [+18.1, +124.2]   [+18.1, +124.2]   [+18.1, +124.2]"
    ]


def test_groups_of_columns_where_nothing_else_fits() -> None:
    row = [measured("111900", "135400", "+21.5%", "[+18.1, +124.2]") for _ in range(5)]
    first, second = blocks_of(format_tables([make_table([row])])[0])
    assert first[0].split() == ["writers", "readers=1", "readers=2", "readers=3"]
    assert second[0].split() == ["writers", "readers=4", "readers=5"]


def test_a_column_wider_than_a_mail_stays_whole_and_aligned() -> None:
    rows = [[measured("1" * 40, "2" * n, "+1%", "[+0, +2]")] for n in (40, 3)]
    text = format_tables([make_table(rows, column_factor=False)])[0]
    lines = [line for line in text.split("\n") if "->" in line]
    assert [line.index("->") for line in lines] == [52, 52]
    assert [len(line) for line in lines] == [95, 95]
