# SPDX-License-Identifier: GPL-2.0-only
"""The page in headless Chromium: widths, themes, axe-core, keyboard, without script, on paper."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdelta.report import run as report
from kdelta.report.figures import figure_stems
from kdelta.report.frames import load_frames
from tests.browser import Browser
from tests.workloads import PIPE_BENCH

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit/report"))  # the made-up runs of the report's own tests
from report_facts import make_context  # noqa: E402
from report_synthetic import FOUR, GAPS, WIDE, Plan, write_results  # noqa: E402

HOSTILE = "<script>alert(1)</script> & 100% _x_"
PROVENANCE = {
    "Patch patches/pipe-prealloc/linux-6.12/0001-a-subject-of-fifty-two-letters-and-more.patch": (
        "3f" * 32
    ),
    "Seed": "20260515",
}
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
SHOWN = "[...document.querySelectorAll('#results table.deltas')].filter((t) => t.checkVisibility())"


def make_page(plan: Plan, folder: Path, figures: bool = False, **changes: object) -> str:
    """Render a made-up run; without figures, empty drawings stand for them."""
    write_results(plan, folder)
    frames, context = load_frames(folder), make_context(plan, **changes)
    if figures:
        report.write_figures(frames, context, folder)
    else:
        (folder / "figures").mkdir()
        for stem in figure_stems(PIPE_BENCH, mechanism=True):
            (folder / f"figures/{stem}.svg").write_text('<svg viewBox="0 0 600 100"></svg>')
    for regime in plan.regimes:
        logs = folder / f"raw/{regime}/block-001"
        logs.mkdir(parents=True)
        (logs / f"{plan.arms[1]}.console.log").write_text("Linux version 6.12\n")
    return report.write_html(frames, context, folder, ROOT / "report").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four arms, four regimes."""
    return make_page(FOUR, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four arms, three regimes, 36 cells."""
    return make_page(WIDE, tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Emulated, with missing blocks and cells, a hostile title, and every figure."""
    changes = {"acceleration": "tcg", "vcpus": 4, "title": HOSTILE, "provenance": PROVENANCE}
    return make_page(GAPS, tmp_path_factory.mktemp("gaps"), figures=True, **changes)


@pytest.fixture(scope="module")
def pages(four: str, wide: str, gaps: str) -> dict[str, str]:
    return {"four": four, "wide": wide, "gaps": gaps}


def axe(browser: Browser, element: str | None = None) -> list[str]:
    """Rules that the visible page breaks, and texts whose contrast could not be told.

    Takes its time with every element of the page; told one, it looks at no other.

    Of texts in drawings it never can: their ground is a shape, not a box.
    """
    source = importlib.resources.files("axe_core_python") / "axe.min.js"
    browser.evaluate(source.read_text(encoding="utf-8") + "; 0")
    # What lies in a closed <details> is not rendered, but axe takes it for covered: one cell's
    # blocks stay, opened, for all, since the same template makes every one.
    browser.evaluate(
        """for (const d of document.querySelectorAll('details.blocks')) {
             [...d.querySelectorAll('details')].slice(1).forEach((cell) => cell.remove()); }
           for (const d of document.querySelectorAll('details')) { d.open = true; } 0"""
    )
    where = json.dumps(element) if element else "document"
    options = {"runOnly": STANDARDS, "resultTypes": ["violations", "incomplete"]}
    found: dict[str, Any] = browser.evaluate(
        f"""axe.run({where}, {json.dumps(options)}).then((r) => ({{
          passes: r.passes.map((rule) => rule.id),
          broken: r.violations.flatMap((rule) =>
            rule.nodes.map((n) => rule.id + ': ' + n.html.slice(0, 200))),
          unknown: r.incomplete.filter((rule) => rule.id === 'color-contrast').flatMap((rule) =>
            rule.nodes.filter((n) => n.any[0].data && n.any[0].data.messageKey === 'bgOverlap'
                && !n.html.startsWith('<text'))
              .map((n) => 'contrast unknown: ' + n.html.slice(0, 200))) }}))"""
    )
    if element is None:
        ran = {"color-contrast", "scrollable-region-focusable"}
        assert ran <= set(found["passes"]), "axe has run"
    broken: list[str] = found["broken"] + found["unknown"]
    return broken


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    # One template makes all pages; what `four` has besides is more of the same.
    [("four", 400, True), ("gaps", 400, False), ("gaps", 1280, True)],
)
def test_axe_finds_nothing(
    browser: Browser, pages: dict[str, str], name: str, width: int, dark: bool
) -> None:
    browser.open(f"{pages[name]}#metric=all", width, dark=dark)
    theme = "getComputedStyle(document.body).backgroundColor"
    assert (browser.evaluate(theme) == "rgb(16, 20, 24)") is dark
    assert axe(browser) == []


def test_axe_finds_nothing_in_an_open_cell(browser: Browser, gaps: str) -> None:
    browser.open(f"{gaps}#cell=cell-1-1-1", 800)
    assert browser.evaluate("document.querySelector('dialog').open")
    assert axe(browser) == []


def test_axe_would_find_something(browser: Browser, four: str) -> None:
    browser.open(four)
    assert axe(browser, "h1") == []
    browser.evaluate("document.querySelector('h1').style.color = '#bbb', 0")
    assert any(line.startswith("color-contrast: ") for line in axe(browser, "h1"))


@pytest.mark.parametrize(
    ("width", "script"), [*((width, True) for width in (400, 800, 1280)), (400, False)]
)
@pytest.mark.parametrize("name", ["wide", "gaps"])
def test_the_page_itself_never_scrolls_sideways(
    browser: Browser, pages: dict[str, str], name: str, width: int, script: bool
) -> None:
    browser.open(pages[name], width, script=script)
    browser.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
    wide = browser.evaluate("document.documentElement.scrollWidth")
    assert browser.evaluate("innerWidth") == width
    assert wide <= width
    # Tables do instead, and the keyboard can reach each of them.
    scrolling = (
        "[...document.querySelectorAll('.scroll')].filter((d) => d.scrollWidth > d.clientWidth)"
    )
    assert browser.evaluate(f"{scrolling}.every((d) => d.tabIndex === 0)")
    if width == 400:
        assert browser.evaluate(f"{scrolling}.length") > 0


@pytest.mark.parametrize("width", [400, 700, 1280])
def test_a_long_label_leaves_room_for_its_text(browser: Browser, gaps: str, width: int) -> None:
    browser.open(gaps, width)
    texts = "[...document.querySelectorAll('#provenance dd, #environment dd')]"
    narrowest = browser.evaluate(f"Math.min(...{texts}.map((d) => d.clientWidth))")
    assert narrowest >= 0.5 * browser.evaluate("document.querySelector('main').clientWidth - 80")


@pytest.mark.parametrize("name", ["four", "wide", "gaps"])
def test_nothing_is_loaded_and_nothing_complains(
    browser: Browser, pages: dict[str, str], name: str
) -> None:
    browser.open(pages[name])
    assert browser.requests() == [pages[name]]
    assert browser.complaints() == []


def test_the_policy_stops_what_is_not_the_pages_own(browser: Browser, four: str) -> None:
    browser.open(four)
    browser.evaluate(
        """(() => { const s = document.createElement('script'); s.textContent = 'window.x = 1';
             document.body.append(s);
             const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';
             document.body.append(i); })()"""
    )
    assert browser.evaluate("window.x === undefined")
    browser.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert any("Content Security Policy" in line for line in browser.complaints())


def test_a_hostile_title_is_text(browser: Browser, gaps: str) -> None:
    browser.open(gaps)
    assert browser.evaluate("document.querySelector('h1').textContent") == HOSTILE
    assert HOSTILE in browser.evaluate("document.title")
    assert browser.evaluate("document.scripts.length") == 1


def test_everything_is_visible_without_script(browser: Browser, four: str) -> None:
    browser.open(four, script=False)
    in_details = "document.querySelectorAll('#results details table.deltas').length"
    assert browser.evaluate(f"{SHOWN}.length") == 4 * 2 * 2
    assert browser.evaluate(in_details) == 4 * 2 * 2, "percentiles, in an element that opens"
    assert not browser.evaluate("document.querySelector('#switches').checkVisibility()")


def test_a_cell_leads_to_its_blocks_without_script(browser: Browser, four: str) -> None:
    browser.open(f"{four}#cell-2-1-4", script=False)
    # The browser itself opens what a fragment points into.
    assert browser.evaluate("document.getElementById('cell-2-1-4').checkVisibility()")
    assert not browser.evaluate("document.getElementById('cell-2-1-5').checkVisibility()")


def test_switches_work_by_keyboard_and_are_kept_in_the_address(browser: Browser, four: str) -> None:
    browser.open(four)
    assert browser.evaluate(f"{SHOWN}.length") == 4 * 2, "throughput alone at first"
    for name in ("regime", "arm"):
        browser.evaluate(f"document.querySelector('#switches [name={name}]').focus()")
        browser.press("ArrowDown")
    assert browser.evaluate("location.hash") == "#regime=idle&arm=bulk"
    assert browser.evaluate(f"{SHOWN}.length") == 1
    assert "1 of 32 tables" in browser.evaluate("document.querySelector('output').value")
    labels = browser.evaluate(f"{SHOWN}.map((t) => t.parentElement.ariaLabel)")
    assert labels == ["Throughput, No memory pressure, bulk"]
    # The same address shows the same tables.
    browser.open(f"{four}#metric=latency_p99_ns&regime=reclaim&arm=loop")
    labels = browser.evaluate(f"{SHOWN}.map((t) => t.parentElement.ariaLabel)")
    assert labels == ["99th percentile of write latency, Direct reclaim, loop"]


def test_a_link_to_a_hidden_regime_shows_it(browser: Browser, four: str) -> None:
    browser.open(f"{four}#regime=idle")
    browser.evaluate("document.querySelector('nav a[href=\"#regime-3\"]').click()")
    browser.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert browser.evaluate("document.querySelector('#regime-3').checkVisibility()")
    assert (
        abs(browser.evaluate("document.querySelector('#regime-3').getBoundingClientRect().top"))
        < 120
    )


def test_unknown_words_in_the_address_are_ignored(browser: Browser, four: str) -> None:
    browser.open(f"{four}#regime=nonsense&cell=<b>&x=1&metric=__proto__")
    assert browser.complaints() == []
    assert browser.evaluate(f"{SHOWN}.length") == 4 * 2


def test_a_cell_opens_by_keyboard_and_closes_where_it_was(browser: Browser, four: str) -> None:
    browser.open(four)
    browser.evaluate("document.querySelector('a.open[href=\"#cell-1-1-2\"]').focus()")
    browser.press("Enter")
    dialog = "document.querySelector('dialog')"
    assert browser.evaluate(f"{dialog}.open")
    assert browser.evaluate("location.hash") == "#cell=cell-1-1-2"
    title = browser.evaluate(f"{dialog}.querySelector('h2').textContent")
    assert title == "writers = 1, readers = 5: bulk against baseline, No memory pressure"
    assert browser.evaluate(f"{dialog}.querySelectorAll('tbody tr').length") == FOUR.blocks
    log = browser.evaluate(f"{dialog}.querySelector('tbody a').href")
    assert log.endswith("/raw/idle/block-001/bulk.console.log")
    browser.press("Escape")
    browser.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert not browser.evaluate(f"{dialog}.open")
    assert browser.evaluate("location.hash") == ""
    assert browser.evaluate("document.activeElement.hash") == "#cell-1-1-2"
    assert browser.evaluate(
        "document.querySelector('#cell-1-1-2').closest('details.blocks') !== null"
    )


def test_links_to_files_lead_to_files(browser: Browser, gaps: str) -> None:
    browser.open(gaps)
    links = browser.evaluate(
        "[...document.querySelectorAll('a[href^=\"../\"]')].map((a) => a.href)"
    )
    assert len(links) > 10
    for link in set(links):
        assert Path(link.removeprefix("file://")).exists(), link


def test_a_dark_page_prints_light_and_complete(browser: Browser, gaps: str, tmp_path: Path) -> None:
    browser.open(f"{gaps}#metric=all", dark=True)
    pdf = browser.pdf(tmp_path / "page.pdf")
    text = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True)
    words = " ".join(text.stdout.split())
    for part in (
        "EMULATED (TCG)",
        HOSTILE,
        "Mean write latency in ns",
        "Claim check",
        "Provenance",
    ):
        assert part in words
    subprocess.run(
        ["pdftoppm", "-r", "20", "-gray", "-f", "1", "-l", "1", pdf, tmp_path / "p"], check=True
    )
    (picture,) = tmp_path.glob("p*.pgm")
    pixels = picture.read_bytes()[-150 * 200 :]
    assert sum(pixels) / len(pixels) > 200, "white paper, dark ink"
