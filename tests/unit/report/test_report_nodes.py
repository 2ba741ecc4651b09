# SPDX-License-Identifier: GPL-2.0-only
"""Several nodes in one run: a section of their own, and a warning where their effects differ."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest
from report_cases import ASSETS, Case

from kdelta.report.caveats import notices, weaknesses
from kdelta.report.html import render_html
from kdelta.report.latex import LatexReport
from kdelta.report.results import Results
from kdelta.report.text import render_text
from kdelta.report.view import build_view

EFFECTS = {"rack-1": 20.0, "rack-2": 5.0}


def on_nodes(case: Case, **differ: str) -> Results:
    """A run of two nodes; `differ` says of arms whether their effects do in the first regime."""
    regimes = [regime.name for regime in case.run.regimes]
    rows = [
        {
            "regime": regime,
            "arm": arm,
            "node": node,
            "processor": "A Processor",
            "acceleration": "kvm",
            "vcpus": 2,
            "cpu_speed": 100.0 if node == "rack-1" else 52.0,
            "metric": "throughput_mib_s",
            "baseline": 1000.0,
            "blocks": 2,
            "delta_percent": delta,
            "delta_low_percent": delta - 2,
            "delta_high_percent": delta + 2,
            "p_value": 0.001,
            "p_holm": 0.004,
            "p_permutation": 0.33,
            "visible_percent": 7.5,
            "differ": differ.get(arm, "not seen") if regime == regimes[0] else "not seen",
        }
        for regime, arm, (node, delta) in itertools.product(
            regimes, ("patched", "control"), EFFECTS.items()
        )
    ]
    return case.run.with_tables(nodes=pd.DataFrame(rows))


def outputs(run: Results, case: Case) -> list[str]:
    """The text, the page and the paper, each on one line."""
    figures = case.folder / "figures"
    texts = (
        render_text(run, ASSETS),
        render_html(run, ASSETS, figures),
        LatexReport(run, ASSETS).paper(figures),
    )
    return [" ".join(text.split()) for text in texts]


def test_a_run_on_one_node_says_nothing_of_nodes(measured: Case) -> None:
    table = on_nodes(measured).frames.nodes
    run = measured.run.with_tables(nodes=table[table["node"] == "rack-1"].assign(differ=""))
    assert build_view(run).nodes is None
    assert notices(run) == ()
    for text, heading in zip(
        outputs(run, measured),
        ("== Nodes ==", 'id="nodes"', r"\section*{Nodes}"),
        strict=True,
    ):
        assert heading not in text
        assert "rack-1" not in text


def test_nodes_are_told_with_speed_and_blocks_in_every_output(measured: Case) -> None:
    run = on_nodes(measured)
    part = build_view(run).nodes
    assert part is not None
    assert part.machines.rows == (
        ("rack-1", "A Processor", "4", "100%"),
        ("rack-2", "A Processor", "4", "52%"),
    )
    assert part.effects.rows[0] == (
        *("No memory pressure", "patched", "2"),
        *("+5.0% [+3.0, +7.0]", "+20.0% [+18.0, +22.0]", "0.004", "7.5%", "not seen"),
    )
    assert len(part.effects.rows) == 4
    assert "differ beyond chance in 0 of 4 comparisons" in part.sentence
    assert notices(run) == ()
    for text, heading in zip(
        outputs(run, measured),
        ("== Nodes ==", 'id="nodes"', r"\section*{Nodes}"),
        strict=True,
    ):
        assert heading in text
        assert "rack-2" in text


def test_a_node_a_regime_leaves_nothing_to_compare(measured: Case) -> None:
    table = on_nodes(measured).frames.nodes
    first = table["regime"] == measured.run.regimes[0].name
    run = measured.run.with_tables(nodes=table[first == (table["node"] == "rack-1")])
    part = build_view(run).nodes
    assert part is not None
    assert len(part.machines.rows) == 2
    assert "No regime was measured on more than one of them." in part.sentence
    for text in outputs(run, measured):
        assert "Lowest and highest effect" not in text


def test_effects_that_differ_are_a_warning_and_stand_beside_the_answer(measured: Case) -> None:
    run = on_nodes(measured, patched="yes")
    (notice,) = notices(run)
    assert notice.headline == "Effects differ from node to node: patched in No memory pressure"
    assert notice.details[0] == (
        "No memory pressure, patched: rack-1 +20.0% [+18.0, +22.0] (2 blocks), rack-2 +5.0% "
        "[+3.0, +7.0] (2 blocks); p of equal effects: 0.004."
    )
    view = build_view(run)
    told = "Effects differ from node to node: the interval reaches over those of all."
    assert view.sections[0].answers[0].sentence.endswith(told)
    assert view.sections[0].main[0].arms[0].overall.endswith(told)
    assert told not in view.sections[1].answers[0].sentence
    for text in outputs(run, measured):
        assert "patched in No memory pressure" in text


def test_what_cannot_be_told_is_a_weakness(measured: Case) -> None:
    run = on_nodes(measured, patched="cannot be told", control="cannot be told")
    assert notices(run) == ()
    assert (
        "Whether effects differ from node to node cannot be told, for want of blocks: No memory "
        "pressure (patched and control)."
    ) in weaknesses(run)
    part = build_view(run).nodes
    assert part is not None
    assert "; in 2 it cannot be told, for want of blocks." in part.sentence


def test_different_processors_are_named_where_blocks_are_pooled(measured: Case) -> None:
    run = on_nodes(measured)
    table = run.frames.nodes
    other = table["processor"].where(table["node"] == "rack-1", "Another Processor")
    (notice,) = notices(run.with_tables(nodes=table.assign(processor=other)))
    assert notice.headline == (
        "Blocks of different processors are pooled: A Processor and Another Processor"
    )


@pytest.mark.parametrize("name", ["007", "1e3", "NA", "a,b", "<b>"])
def test_a_node_is_called_as_it_is_called(measured: Case, tmp_path: Path, name: str) -> None:
    from kdelta.report.frames import load_frames

    table = on_nodes(measured).frames.nodes.replace({"node": {"rack-1": name}})
    for path in ("samples.csv", "validity.csv"):
        (tmp_path / path).write_bytes((measured.folder / path).read_bytes())
    (tmp_path / "tables").mkdir()
    for source in (measured.folder / "tables").glob("*.csv"):
        (tmp_path / "tables" / source.name).write_bytes(source.read_bytes())
    table.to_csv(tmp_path / "tables/nodes.csv", index=False)
    assert set(load_frames(tmp_path).nodes["node"]) == {name, "rack-2"}
