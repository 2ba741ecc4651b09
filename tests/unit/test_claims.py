# SPDX-License-Identifier: GPL-2.0-only
"""Published deltas: the file that is shipped, and every mistake in such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdelta.claims import read_claims
from kdelta.config import load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from tests.conftest import CHECKOUT, Project

SHIPPED = CHECKOUT / "config" / "claims" / "pipe-prealloc.csv"
HEADER = "regime,metric,writers,readers,baseline,value,delta_percent\n"
ROW = "idle,throughput_mib_s,1,3,1000,1200,20\n"


@pytest.fixture
def claimed(project: Project, small: dict[str, Any]) -> Experiment:
    """The small experiment, with claims about `patched`."""
    claims = {"file": "claims.csv", "source": "a mail", "arm": "patched"}
    (project.root / "claims.csv").touch()  # each test writes its own
    return project.load(small | {"claims": claims})


def write(project: Project, text: str) -> Path:
    path = project.root / "claims.csv"
    path.write_text(text, encoding="utf-8")
    return path


def shipped_table() -> pd.DataFrame:
    return pd.read_csv(SHIPPED)


def test_the_shipped_claims_are_about_the_flagship() -> None:
    flagship = load_experiment(CHECKOUT / "config/experiments/pipe-prealloc.yaml", CHECKOUT)
    assert flagship.claims is not None
    assert CHECKOUT / flagship.claims.file == SHIPPED
    found = read_claims(SHIPPED, flagship)
    cells = {
        (claim.regime, claim.metric, claim.levels["writers"], claim.levels["readers"])
        for claim in found
    }
    assert cells == {
        (regime, metric, writers, readers)
        for regime in ("idle", "memory-pressure")
        for metric in ("throughput_mib_s", "latency_mean_ns")
        for writers in flagship.matrix["writers"]
        for readers in flagship.matrix["readers"]
    }
    assert len(found) == 36
    assert {claim.regime for claim in found} <= set(flagship.regimes)
    assert {claim.arm for claim in found} == {"bulk"}


def test_printed_percentages_agree_with_their_numbers() -> None:
    table = shipped_table()
    # Every number is printed as a whole one, so half of a unit either way.
    lowest = ((table["value"] - 0.5) / (table["baseline"] + 0.5) - 1) * 100
    highest = ((table["value"] + 0.5) / (table["baseline"] - 0.5) - 1) * 100
    printed = table["delta_percent"]
    assert ((printed + 0.5 >= lowest) & (printed - 0.5 <= highest)).all()


def test_the_published_unit_is_mib() -> None:
    cell = ["regime", "writers", "readers"]
    table = shipped_table().set_index([*cell, "metric"])[["baseline", "value"]].unstack("metric")
    for column in ("baseline", "value"):
        writers = table.index.get_level_values("writers").to_numpy()
        bytes_per_s = writers * 65536 / (table[column, "latency_mean_ns"] / 1e9)
        printed = table[column, "throughput_mib_s"]
        assert (bytes_per_s / 2**20 / printed - 1).abs().max() < 0.002
        assert (bytes_per_s / 1e6 / printed - 1).min() > 0.045


def test_a_claim_is_read_with_the_types_of_the_matrix(
    project: Project, small: dict[str, Any]
) -> None:
    chosen = small["workloads"]["pipe_bench"]
    chosen["arguments"] = {"writers": 1, "readers": 1}
    chosen["matrix"] = {"write_size": ["64K", 8192], "nonblock": [False, True], "pin": ["none"]}
    small["claims"] = {"file": "claims.csv", "source": "a mail", "arm": "other"}
    (project.root / "claims.csv").touch()
    path = write(
        project,
        # Any order of columns, a byte order mark, empty lines, what spreadsheets write.
        "\ufeffmetric,regime,nonblock,pin,write_size,delta_percent,value,baseline\r\n"
        "\r\n"
        'latency_p99_ns,"idle",TRUE, none,65536,-17.5,825,1e3\r\n',
    )
    (claim,) = read_claims(path, project.load(small))
    assert claim.levels == {"write_size": "64K", "nonblock": True, "pin": "none"}
    assert claim.levels["nonblock"] is True
    assert (claim.regime, claim.arm, claim.metric) == ("idle", "other", "latency_p99_ns")
    assert (claim.baseline, claim.value, claim.delta_percent) == (1000.0, 825.0, -17.5)


def test_a_claim_about_what_the_experiment_lacks_is_kept(
    project: Project, claimed: Experiment
) -> None:
    rows = ROW + ROW.replace("idle", "swapping") + ROW.replace(",1,3,", ",5,10,")
    first, elsewhere, larger = read_claims(write(project, HEADER + rows), claimed)
    assert first.levels == {"writers": 1, "readers": 3}
    assert elsewhere.regime == "swapping"
    assert larger.levels == {"writers": 5, "readers": 10}


MISTAKES = [
    ("", ":1: no column 'regime'; columns are regime, metric, writers, readers, baseline, value"),
    (HEADER, ": no claims below the header"),
    (HEADER.replace("readers,", ""), ":1: no column 'readers'; columns are"),
    (HEADER.replace("readers", "pipes"), ":1: unknown column 'pipes'; columns are"),
    (HEADER.replace("readers", "writers"), ":1: column 'writers' is there twice"),
    (HEADER + ROW + "idle,throughput_mib_s,1\n", ":3: 3 values, but the header has 7 columns"),
    (HEADER + ROW.replace("idle", "Not idle"), ":2: regime: should be the name of a regime, fou"),
    (HEADER + ROW.replace("_mib_", "_mb_"), ":2: metric: should be one of throughput_mib_s, lat"),
    (HEADER + ROW.replace(",1,3", ",1,many"), ":2: readers: should be a whole number from 1 to"),
    (HEADER + ROW.replace(",1,3", ",1,true"), ":2: readers: should be a whole number from 1 to"),
    (HEADER + ROW.replace(",1,3", ",0,3"), ":2: writers: should be a whole number from 1 to"),
    (HEADER + ROW.replace("1000", "1e999"), ":2: baseline: should be a number, found '1e999'"),
    (HEADER + ROW.replace("1000", "0"), ":2: baseline: should be more than 0, found '0'"),
    (HEADER + ROW.replace("1200", "-3"), ":2: value: should be more than 0, found '-3'"),
    (HEADER + ROW.replace("20\n", "+20%\n"), ":2: delta_percent: should be a number, found '+2"),
    (HEADER + ROW + ROW.replace("20\n", "21\n"), ":3: this regime, metric and cell were given in"),
    (HEADER + '"idle"x,', ":2: not valid CSV: "),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_a_mistake_is_one_line_that_names_its_place(
    project: Project, claimed: Experiment, text: str, expected: str
) -> None:
    path = write(project, text)
    with pytest.raises(KdeltaError) as caught:
        read_claims(path, claimed)
    assert str(caught.value).startswith(f"{path}{expected}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(project: Project, claimed: Experiment) -> None:
    path = project.root / "claims.csv"
    path.unlink()
    with pytest.raises(KdeltaError, match=r"claims\.csv: no such file"):
        read_claims(path, claimed)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(KdeltaError, match=r"claims\.csv: cannot be read"):
        read_claims(path, claimed)
    with pytest.raises(KdeltaError, match="cannot be read"):
        read_claims(project.root, claimed)


def test_an_experiment_without_claims_is_our_own_mistake(project: Project) -> None:
    with pytest.raises(ValueError, match="small names no claims"):
        read_claims(write(project, HEADER + ROW), project.load())
