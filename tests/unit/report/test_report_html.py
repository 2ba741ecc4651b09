# SPDX-License-Identifier: GPL-2.0-only
"""The page: escaped, self-contained, structured, and honest about emulation."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import ASSETS, NASTY, Case

from kdelta.errors import KdeltaError
from kdelta.report.figures import figure_stems
from kdelta.report.figures.svg import inline_svg
from kdelta.report.formatting import typeset_minus
from kdelta.report.html import render_html
from kdelta.report.view import build_view
from tests.workloads import PIPE_BENCH

FIGURES = len(figure_stems(PIPE_BENCH, mechanism=True))
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects elements with their attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.stack):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page(emulated: Case) -> Page:
    return Page(emulated.html)


def test_tags_nest_and_ids_are_unique(page: Page) -> None:
    assert page.stack == []
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert len(ids) > 100, "the figures' ids are among them"


def test_references_inside_the_page_exist(page: Page, emulated: Case) -> None:
    ids = {a["id"] for _, a in page.elements if "id" in a}
    used = re.findall(r"url\(#([^)]+)\)", emulated.html)
    links = [a["href"] for _, a in page.elements if a.get("href", "").startswith("#")]
    used += [link.removeprefix("#") for link in links]
    assert len(used) > 100, "every cell has a link to its blocks"
    assert set(used) <= ids


def test_nothing_is_loaded_from_anywhere(page: Page, emulated: Case) -> None:
    assert "http:" not in emulated.html
    assert "https:" not in emulated.html
    assert "@import" not in emulated.html
    assert page.all("script") == [{}], "one, without an address"
    assert not page.all("link")
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            value = attributes.get(name)
            allowed = ("#", "data:image/png;base64,", *(["../"] if tag == "a" else []))
            assert value is None or value.startswith(allowed)


def test_the_policy_allows_this_script_and_no_network(page: Page, emulated: Case) -> None:
    script = emulated.html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert emulated.html.index("Content-Security-Policy") < emulated.html.index("<title>")


def test_hostile_title_comes_out_as_text(page: Page, emulated: Case) -> None:
    assert emulated.html.count("<script") == 1, "our own"
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 100% _x_" in emulated.html
    assert NASTY in page.words


@given(st.text(max_size=60))
def test_any_text_survives_escaping(text: str) -> None:
    svg = "<?xml?><svg viewBox='0 0 1 1'><g id=\"a\"></g></svg>"
    element = Page(inline_svg(svg, "p", text)).all("svg")[0]
    # An HTML reader turns a carriage return and NUL into something else in any document.
    if not set(text) & {"\r", "\0"}:
        assert element["aria-label"] == text


SVG = (
    '<?xml version="1.0"?><svg viewBox="0 0 9 9"><metadata>old</metadata>\n'
    ' <defs><style type="text/css">*{stroke-linecap: butt}</style></defs>\n'
    ' <g id="figure_1"><g id="line_1"/>\n'
    '  <path d="M 1 2 \nL 3.14159 4 \nz\n" clip-path="url(#p1)" style="fill: #1b1f24"/>\n'
    '  <use xlink:href="#m1" x="1.234567" y="2"/>\n'
    "  <text style=\"font-size: 8px; font-family: 'DejaVu Sans'; fill: none\""
    ' transform="rotate(-0 1 2)">%s</text>\n'
    '  <text style="font-size: 8px" transform="rotate(-90 1.5 2)">up</text>\n'
    " </g>\n"
    ' <defs><clipPath id="p1"><path id="m1" d="M 0 0"/></clipPath></defs>\n'
    "</svg>\n"
)


def test_a_figure_in_the_page_is_short_and_complete() -> None:
    made = inline_svg(SVG % "+1%", "f", "words")
    assert made[made.index(">") :] == (
        '><g><path d="M1 2L3.14 4z" clip-path="url(#f-p1)" style="fill: #1b1f24"/>'
        '<use href="#f-m1" x="1.23" y="2"/>'
        '<text style="font-size: 8px; fill: none">+1%</text>'
        '<text style="font-size: 8px" transform="rotate(-90 1.5 2)">up</text></g>'
        '<defs><clipPath id="f-p1"><path id="f-m1" d="M0 0"/></clipPath></defs></svg>'
    )


@pytest.mark.parametrize(
    "title",
    [
        ' id="x" d="M 1 2 L 3 4" 0.123456789',
        "style=\"font-family: 'DejaVu Sans'; fill: #fefefe\"",
        'url(#p1) xlink:href="#m1" transform="rotate(-0 1 2)"',
        "&lt;style&gt;*{}&lt;/style&gt;",
    ],
)
def test_a_figure_s_words_are_the_user_s(title: str) -> None:
    assert f">{title}</text>" in inline_svg(SVG % title, "f", "words")


@pytest.mark.parametrize(
    "field", ["title", "summary", "reproduce", "generated_from", "experiment", "protocol"]
)
def test_every_text_of_the_context_is_escaped(measured: Case, field: str) -> None:
    context = replace(measured.run, **{field: "<b id='x'>&amp;"})
    html = render_html(context, ASSETS, measured.folder / "figures")
    assert "<b id=" not in html
    assert "&lt;b id=&#39;x&#39;&gt;&amp;amp;" in html


def test_banner_and_tags_when_emulated(page: Page, emulated: Case, measured: Case) -> None:
    body = emulated.html[emulated.html.index("<body>") :]
    assert body.index("EMULATED (TCG): not a measurement") < body.index("<h1>")
    assert (
        "Why without KVM /dev/kvm exists, but the built kernel did not boot with it." in page.words
    )
    assert emulated.html.count('<span class="tag">emulated</span>') == 2
    assert "<title>Emulated: " in emulated.html
    assert "EMULATED" not in measured.html
    assert "measured (KVM)" in measured.html
    assert ">emulated<" not in measured.html


def test_landmarks_and_headings(page: Page) -> None:
    for tag in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(tag)) == 1, tag
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


def test_tables_have_scoped_headers_and_captions(page: Page) -> None:
    # Deltas three times (main, percentiles, with all samples); counters per arm and per cell of
    # two regimes; mechanism; claims; negative controls; set aside; boot order;
    # settings. Blocks: every cell.
    deltas = [t for t in page.all("table") if t["class"] == "deltas"]
    assert len(deltas) == 3 * 2 * 2
    blocks = [t for t in page.all("table") if t["class"] == "numbers blocks"]
    assert len(blocks) == 2 * 9
    rest = len(page.all("table")) - len(deltas) - len(blocks)
    assert rest == 2 * 2 + 4 + 2 + 1 + 3 + 1 + 2
    assert len(page.all("caption")) == len(page.all("table"))
    assert page.all("th")
    assert all(th.get("scope") in ("row", "col", "rowgroup", "colgroup") for th in page.all("th"))


def test_figures_have_names_and_keyboard_access(page: Page) -> None:
    figures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(figures) == FIGURES
    assert all("Emulated, not measured." in str(svg["aria-label"]) for svg in figures)
    scrolling = [d for d in page.all("div") if d.get("class") == "scroll"]
    assert all(d.get("tabindex") == "0" and d.get("aria-label") for d in scrolling)
    assert len(page.all("figcaption")) == FIGURES


def test_figures_say_emulated_and_follow_the_theme(emulated: Case, measured: Case) -> None:
    assert emulated.html.count("— emulated (TCG)") == FIGURES
    assert "— emulated" not in measured.html
    assert "var(--fig-ink)" in emulated.html
    assert "prefers-color-scheme: dark" in emulated.html


def test_every_cell_has_its_interval_and_verdict(measured: Case) -> None:
    cells = re.findall(r"<td class=\"(\w+)\">(.*?)</td>", measured.html)
    shown = [c for c in cells if 'class="pair"' in c[1]]
    assert len(shown) == 2 * 4 * 9
    for verdict, cell in shown:
        assert re.search(r"</a> \[[+−][\d.]+, [+−][\d.]+\]", cell)
        assert f">{verdict}</span>" in cell or f"</span>{verdict}</span>" in cell


def test_gaps_are_shown(emulated: Case, page: Page) -> None:
    assert emulated.html.count('<td class="missing">') == 2 + 2 + 2
    assert "[n/a]" in page.words
    assert "1 of 4 pairs set aside" in page.words
    assert "29 of 216 planned samples set aside" in page.words
    assert "stressor-dead" in page.words


def test_methods_and_provenance_hold_the_runs_numbers(page: Page) -> None:
    for words in (
        "writers {1, 2, 5} and readers {1, 5, 10}",
        "4 blocks per regime were planned",
        "within 2% of no change",
        "Intervals hold 95% confidence",
        "3f" * 32,
        "fs/pipe: bulk pre-allocate pages outside pipe->mutex",
        "make report EXPERIMENT=pipe-prealloc",
    ):
        assert words in page.words, words


def test_an_answer_begins_with_its_arm(page: Page, measured: Case) -> None:
    assert measured.html.count("<p><b>patched</b> ") == 2
    view = build_view(measured.run)
    words = Page(measured.html).words
    for section in view.sections:
        for answer in section.answers:
            assert answer.sentence.startswith(f"{answer.arm.name} ")
            assert " ".join(typeset_minus(answer.sentence).split()) in words.replace("  ", " ")


def test_the_arms_are_explained_above_the_answer(measured: Case) -> None:
    html = measured.html
    for arm in measured.run.arms:
        place = html.index(f"<dt>{arm.name}</dt><dd>{arm.title}</dd>")
        assert html.index("<h1>") < place < html.index('<h2 id="answer">')


def test_tables_of_several_arms_and_levels_have_their_names_on_top(
    wide: Case, tmp_path: Path
) -> None:
    for stem in figure_stems(PIPE_BENCH, mechanism=False):
        (tmp_path / f"{stem}.svg").write_text('<svg viewBox="0 0 1 1"></svg>')
    html = render_html(wide.run, ASSETS, tmp_path, wide.folder)
    assert html.count('<h4 class="arm">bulk against baseline</h4>') == 3 * 4
    assert html.count("<caption><span><b>write size = 4 KiB</b> ") == 3 * 4 * 2


def test_missing_figure_is_named(measured: Case, tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=r"heatmap-throughput_mib_s\.svg: not readable"):
        render_html(measured.run, ASSETS, tmp_path)


def test_same_input_same_page(measured: Case) -> None:
    again = render_html(measured.run, ASSETS, measured.folder / "figures")
    assert again == measured.html
