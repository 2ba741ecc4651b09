# SPDX-License-Identifier: GPL-2.0-only
"""What arms cost, in every output; and nothing where nothing was recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from report_cases import ASSETS, Case
from report_facts import make_context
from report_synthetic import WIDE, write_results

from kdelta.mail.cover import Letter, render_cover
from kdelta.report.costs import SHOWN, costs
from kdelta.report.frames import ReportFrames, load_frames
from kdelta.report.latex import LatexReport
from kdelta.report.results import Results
from kdelta.report.run import write_html, write_text

CONTEXT = make_context(WIDE)


def cost(arm: str, quantity: str, base: float, value: float, **more: object) -> dict[str, object]:
    return {
        **{"arm": arm, "quantity": quantity, "unit": "B", "baseline": base, "value": value},
        **{"change": value - base, "change_percent": 100 * (value / base - 1) if base else None},
        **{"same_kernel": False, **more},
    }


def with_costs(folder: Path, costs_: list[dict[str, object]], symbols: int = 0) -> ReportFrames:
    """The tables of a folder, of which the arm `bulk` has so many symbols of another size."""
    base, new = {"baseline_bytes": 100, "change_bytes": 28}, {"change_bytes": 128}
    rows = [
        {
            "arm": "bulk",
            "kind": "text",
            "symbol": f"a_name_{n}",
            "bytes": 128,
            **(base if n else new),
        }
        for n in range(min(symbols, 100))
    ]
    rows.append(
        {"arm": "bulk", "kind": "stack", "symbol": "fs/pipe.o:pipe_write", "bytes": 224}
        | {"baseline_bytes": 96, "change_bytes": 128}
    )
    for name, table in (("costs", costs_), ("symbols", rows if costs_ else [])):
        path = folder / "tables" / f"{name}.csv"
        columns = pd.read_csv(path).columns
        pd.DataFrame(table, columns=columns).to_csv(path, index=False)
    return load_frames(folder)


BULK = [
    cost("bulk", "text", 10_993_520, 10_994_620),
    cost("bulk", "data", 3_699_846, 3_699_846),
    cost("bulk", "bss", 1_839_108, 1_839_044),
    cost("bulk", "image", 3_000_000, 3_000_512),
    cost("bulk", "memory_used", 61_000, 61_040, change_low=-12.4, change_high=92.4, blocks=5),
    cost("bulk", "symbols", 8_000_000, 8_000_305),
    cost("bulk", "stack_changed", 0, 1),
]
LOOP = [cost("loop", name, 10, 10, same_kernel=True) for name in ("symbols", "text", "data", "bss")]
CONTROL = [
    cost("control", "memory_used", 61_000, 60_990, change_low=-30, change_high=10, same_kernel=True)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_results(WIDE, tmp_path)


def everywhere(frames: ReportFrames, folder: Path) -> dict[str, str]:
    (folder / "figures").mkdir(exist_ok=True)
    text = write_text(frames, CONTEXT, folder, ASSETS).read_text()
    letter = Letter("Dear all,", "bulk", "Linux", "base", "A <a@b>", "log", "stat")
    run = Results.of(frames, CONTEXT)
    mail = render_cover(run, letter, ASSETS / "mail")
    pieces = "".join(LatexReport(run, ASSETS).pieces().values())
    return {"text": text, "mail": mail, "pieces": pieces}


def test_totals_of_every_arm(folder: Path) -> None:
    found = costs(Results.of(with_costs(folder, BULK + LOOP + CONTROL), CONTEXT))
    assert found is not None
    rows = {row[0]: row[1:] for row in found.totals.rows}
    assert rows == {
        "baseline": ("8000000", "10993520", "3699846", "1839108", "3000000", "61000"),
        "bulk": ("+305", "+1100 (+0.01%)", "+0", "-64", "+512", "+40 [-12, +92]"),
        "loop": ("+0", "+0 (+0.00%)", "+0", "+0", "same", "same"),
        "control": ("same", "same", "same", "same", "same", "-10 [-30, +10]"),
    }
    assert found.sentence == "loop boots the kernel of baseline and costs nothing in code."


def test_stack_use_is_told_old_and_new(folder: Path) -> None:
    found = costs(Results.of(with_costs(folder, BULK), CONTEXT))
    assert found is not None
    assert found.stack.rows == (("pipe_write", "fs/pipe.o", "96", "224", "+128"),)


@pytest.mark.parametrize("count", [0, 1, SHOWN, SHOWN + 1, 5321])
def test_the_largest_symbols_and_how_many_there_are(folder: Path, count: int) -> None:
    counted = cost("bulk", "symbols_changed", 0, count)
    found = costs(Results.of(with_costs(folder, [*BULK, counted], count), CONTEXT))
    assert found is not None
    assert len(found.symbols.rows) == min(count, SHOWN)
    assert bool(found.symbols) == (count > 0)
    heading = found.symbols.groups[0].heading
    assert heading == ("bulk" if count <= SHOWN else f"bulk, the 10 largest changes of {count}")
    if count:
        assert found.symbols.rows[0] == ("a_name_0", "text", "none", "128", "+128")


def test_of_another_compiler_symbols_are_counted_and_not_listed(folder: Path) -> None:
    """Inlining and the names of local variables: tens of thousands, and no news."""
    counted = [cost("bulk", "symbols_changed", 0, 22496)]
    frames = with_costs(folder, [*BULK, *counted], 40)
    compilers = {"bulk": "clang 19"}
    arms = tuple(arm._replace(compiler=compilers.get(arm.name, "gcc 12")) for arm in CONTEXT.arms)
    found = costs(Results.of(frames, replace(CONTEXT, arms=arms)))
    assert found is not None
    assert "22496 symbols of another size and 1 function of another stack use" in found.sentence
    assert [len(grid.groups) for grid in (found.symbols, found.stack)] == [
        len(CONTEXT.treatments) - 1
    ] * 2
    assert "bulk" in {row[0] for group in found.totals.groups for row in group.rows}
    assert arms[1].described.endswith("; compiled by clang 19")


def test_memory_alone_is_shown_alone(folder: Path) -> None:
    """A run of ready images has no sizes."""
    frames = with_costs(folder, [cost("bulk", "memory_used", 61_000, 61_040, same_kernel=False)])
    found = costs(Results.of(frames, CONTEXT).with_tables(symbols=frames.symbols.iloc[:0]))
    assert found is not None
    assert found.totals.head == ("arm", "memory after boot (KiB)")
    assert found.totals.rows == (("baseline", "61000"), ("bulk", "+40 [n/a]"))
    assert not found.symbols
    assert not found.stack


def test_every_output_has_it(folder: Path) -> None:
    for name, output in everywhere(with_costs(folder, BULK + CONTROL, 2), folder).items():
        words = output.replace("\\_", "_").replace("{}", "")
        for wanted in ("+1100 (+0.01", "a_name_1", "pipe_write", "+512"):
            assert wanted in words, (name, wanted)


def test_a_mail_says_it_within_its_width(folder: Path) -> None:
    mail = everywhere(with_costs(folder, BULK + CONTROL, 40), folder)["mail"]
    assert "== What it costs ==" in mail
    part = mail.split("== What it costs ==")[1].split("\n== ")[0]
    assert max(map(len, part.split("\n"))) <= 78
    assert "loop" not in part, "the mail is about another arm"


def test_page_and_paper(measured: Case, tmp_path: Path) -> None:
    """The drawn figures of a run, with costs beside them."""
    rows = [{**row, "arm": "patched"} for row in BULK]
    table = pd.DataFrame(rows, columns=measured.frames.costs.columns)
    table["same_kernel"] = table["same_kernel"].astype(bool)
    run = measured.run.with_tables(costs=table)
    tex = LatexReport(run, ASSETS).paper(measured.folder / "figures")
    (tmp_path / "figures").symlink_to(measured.folder / "figures")
    page = write_html(run.frames, run, tmp_path, ASSETS).read_text()
    for output in (tex, page):
        assert "What it costs" in output
        assert "+1100" in output.replace("\N{NARROW NO-BREAK SPACE}", "")
    assert 'href="#costs"' in page


def test_runs_without_records_say_nothing(measured: Case, folder: Path) -> None:
    assert costs(measured.run) is None
    outputs = everywhere(load_frames(folder), folder)
    for output in (measured.text, measured.html, measured.tex, *outputs.values()):
        assert "What it costs" not in output
