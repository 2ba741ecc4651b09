# SPDX-License-Identifier: GPL-2.0-only
"""Packing a run and laying it out again: nothing is lost, damage is told, names stay inside."""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
from pathlib import Path

import pytest

from kdelta.cli import main
from kdelta.errors import KdeltaError
from kdelta.provenance import PACK_RECORD
from kdelta.reference.pack import Packed, pack, unpack
from kdelta.reference.scrub import Scrubber
from kdelta.reference.sums import differences, in_short, read_sums, write_sums
from tests.unit.reference.reference_runs import (
    CLAIMS,
    CLAIMS_TEXT,
    NODES,
    SECRETS,
    finished_run,
)

SCHEDULE = "raw/idle/block-001/schedule.json"
ARM = "raw/idle/block-002/patched.jsonl"


@pytest.fixture(autouse=True)
def _own_signals() -> object:
    """`main` takes SIGTERM over; here it belongs to pytest."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished_run(tmp_path / "results", tmp_path / "root", blocks=2)


def packed(run: Path, tmp_path: Path) -> tuple[Path, Packed]:
    folder = tmp_path / "reference"
    return folder, pack(run, folder, tmp_path / "root", Scrubber([], NODES))


def raw_files(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for part in ("raw", "mechanism")
        for path in (run / part).rglob("*")
        if path.is_file()
    }


def test_there_and_back(run: Path, tmp_path: Path) -> None:
    (run / "raw/idle/block-001/patched.partial.jsonl").write_text("of a failed boot\n")
    folder, summary = packed(run, tmp_path)
    assert summary.files == len([p for p in folder.rglob("*") if p.is_file()])
    assert summary.size == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    again = tmp_path / "again"
    (again / "raw/idle/block-009").mkdir(parents=True)
    (again / "raw/idle/block-009/old.jsonl").write_text("of an older reference\n")
    unpack(folder, again)

    before, after = raw_files(run), raw_files(again)
    assert set(after) == {name for name in before if ".partial." not in name}
    changed = json.loads((folder / PACK_RECORD).read_text())["changed"]
    assert SCHEDULE not in changed
    assert ARM not in changed
    for name, data in after.items():
        if name in changed:
            assert hashlib.sha256(before[name]).hexdigest() == changed[name]["measured"]
            assert hashlib.sha256(data).hexdigest() == changed[name]["shipped"]
        else:
            assert data == before[name]
    assert (again / CLAIMS).read_text() == CLAIMS_TEXT
    was, now = (json.loads((f / "manifest.json").read_text()) for f in (run, again))
    tags = {node: f"<node {number}>" for number, node in enumerate(NODES, start=1)}
    blocks = [block | {"node": tags[block["node"]]} for block in was["blocks"]]
    assert now == was | {"argv": "snakemake --cores all --directory <path>", "blocks": blocks}


def test_nothing_private_ships(run: Path, tmp_path: Path) -> None:
    folder, _ = packed(run, tmp_path)
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            assert not [secret for secret in SECRETS if secret.encode() in text], path


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    folder, _ = packed(run, tmp_path)
    first = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    packed(run, tmp_path)  # in place of the older one
    assert first == {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_changed_raw_file_is_refused(run: Path, tmp_path: Path) -> None:
    (run / ARM).write_bytes((run / ARM).read_bytes().replace(b'"ok"', b'"OK"', 1))
    with pytest.raises(KdeltaError, match=r"patched\.jsonl: not what was measured"):
        packed(run, tmp_path)
    assert not (tmp_path / "reference").exists()


def test_a_missing_raw_file_is_refused(run: Path, tmp_path: Path) -> None:
    (run / ARM).unlink()
    with pytest.raises(KdeltaError, match=r"patched\.jsonl: no such file, and manifest\.json"):
        packed(run, tmp_path)


def test_another_folder_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(KdeltaError, match="exists and is no packed run"):
        packed(run, tmp_path)
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.write_bytes(gzip.compress(b"{}\n")), "not the file that was packed"),
        (lambda f: f.write_bytes(f.read_bytes()[:-9]), "cannot be read"),
        (lambda f: f.unlink(), "no such file; the reference is not complete"),
    ],
)
def test_damage_is_told(run: Path, tmp_path: Path, spoil: object, message: str) -> None:
    folder, _ = packed(run, tmp_path)
    spoil(folder / f"{ARM}.gz")  # type: ignore[operator]
    with pytest.raises(KdeltaError, match=rf"block-002/patched\.jsonl\.gz: {message}"):
        unpack(folder, tmp_path / "again")
    assert not (tmp_path / "again/manifest.json").exists()


def test_names_stay_inside(run: Path, tmp_path: Path) -> None:
    folder, _ = packed(run, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "outside.json").write_text("{}")
    manifest["raw_sha256"]["../outside.json"] = hashlib.sha256(b"{}").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(KdeltaError, match="leads out of the run's folder"):
        unpack(folder, tmp_path / "a/b")


def test_a_folder_that_is_no_packed_run(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match="no packed run here"):
        unpack(tmp_path, tmp_path / "again")


def test_sums_as_sha256sum_writes_them(tmp_path: Path) -> None:
    sums = {"tables/b.csv": "ab" * 32, "a.csv": "cd" * 32}
    path = tmp_path / "SHA256SUMS"
    path.write_text(write_sums(sums))
    assert path.read_text() == f"{'cd' * 32}  a.csv\n{'ab' * 32}  tables/b.csv\n"
    assert read_sums(path) == sums
    path.write_text("nothing of the kind\n")
    with pytest.raises(KdeltaError, match="not a list of sha256 sums"):
        read_sums(path)


def test_differences_in_words() -> None:
    words = differences({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"})
    assert words == ["a is missing", "c differs", "d is new"]
    assert in_short(words) == "a is missing, c differs, d is new"
    assert in_short(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_tables_of_another_version_do_not_ship(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "tables").mkdir()
    (run / "tables" / "deltas.csv").write_text("older\n")
    argv = ["reference", "--run", str(run), "--output", str(tmp_path / "reference")]
    assert main(["--root", str(tmp_path / "root"), *argv]) == 1
    assert "gives other tables than this folder has: tables/deltas.csv" in capsys.readouterr().err
