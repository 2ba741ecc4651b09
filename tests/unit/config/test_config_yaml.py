# SPDX-License-Identifier: GPL-2.0-only
"""What is not YAML, or not the YAML that was meant, is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdelta.config import load_experiment, read_yaml
from kdelta.errors import KdeltaError


def complaint(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(KdeltaError) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", ":3:2: ", "not valid YAML: expected ',' or ']'"),
        ("a: 1\nb: [1, 2\nc: 3\n", ":3:2: ", "close the bracket that line 2 opens, in: b: [1, 2"),
        ("a:\n\t- 1\n", ":2:1: ", "found character '\\t' that cannot start any token"),
        ("a:\n\t- 1\n", ":2:1: ", "; indent with blanks, not with tabs, in: - 1"),
        ("a: b: c\n", ":1:5: ", "; indent keys of one mapping alike, and quote text that holds a"),
        ("a: 1\n---\nb: 1\n", ":2:1: ", "a file holds one document: remove the line with ---"),
        ("a: 1\nb: 2\na: 3\n", ":3:1: ", "the key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", ":3:3: ", "the key 'b' is given twice"),
        # what looks like a date, a number or a tag, and is none
        ("a: 1\nversion: 2026-13-45\n", ":2:10: ", "'2026-13-45' is not a valid timestamp; quote"),
        ("a: 0x_\n", ":1:4: ", "'0x_' is not a valid int"),
        ("a: !!int word\n", ":1:4: ", "'word' is not a valid int"),
        ("a: !!int ''\n", ":1:4: ", "'' is not a valid int"),
        ("a: !!bool maybe\n", ":1:4: ", "'maybe' is not a valid bool"),
        ("a: !!timestamp x\n", ":1:4: ", "'x' is not a valid timestamp"),
        ("a: !!python/object:os.system x\n", ":1:4: ", "could not determine a constructor"),
        # keys that are no words
        ("? [a, b]\n: 1\n", ":1:3: ", "a key has to be a plain word"),
        ("a: {{b: 1}: 2}\n", ":1:5: ", "a key has to be a plain word"),
        ("a: &x {b: *x}\n", ":1:4: ", "found unconstructable recursive node"),
    ],
)
def test_the_line_and_column_are_named(tmp_path: Path, text: str, place: str, words: str) -> None:
    said = complaint(tmp_path / "e.yaml", text)
    assert said.startswith(place)
    assert words in said


def test_control_characters(tmp_path: Path) -> None:
    assert "not valid YAML" in complaint(tmp_path / "e.yaml", "a: \x00\n")


def test_nesting_without_end(tmp_path: Path) -> None:
    said = complaint(tmp_path / "e.yaml", "[" * 3_000)
    assert said == ": not valid YAML: nested too deeply"


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_bytes("a: 1\nb: ü\n".encode("latin-1"))
    with pytest.raises(KdeltaError, match=r":2: cannot be read: not UTF-8 \(byte 0xfc\); save the"):
        read_yaml(path)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match="cannot be read"):
        read_yaml(tmp_path)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(KdeltaError, match="cannot be read"):
        read_yaml(Path("a\0b"))


@pytest.mark.parametrize(
    ("text", "kind"), [("", "nothing"), ("- 1\n", "a list"), ("word", "a str")]
)
def test_a_document_that_is_no_mapping(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(KdeltaError) as caught:
        load_experiment(path)
    assert str(caught.value) == (
        f"{path}: expected a mapping of keys to values (lines such as `name: value`), found {kind}"
    )
