# SPDX-License-Identifier: GPL-2.0-only
"""Text of strangers, made safe to print."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.analysis.rules import Breach
from kdelta.cli import main
from kdelta.commands import check
from kdelta.errors import KdeltaError
from kdelta.plain import one_line, printable, printable_values


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\tb\nc é 数 µs -> ±", "a\tb\nc é 数 µs -> ±"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x9b2Jx\x1b(Bz\x1bcy", "xzy"),
        ("line\rover\x00\x08\x7f", "lineover"),
        ("\u202egnp.exe\u2066", "gnp.exe"),
        ("\udc80", ""),
    ],
)
def test_what_is_left(text: str, plain: str) -> None:
    assert printable(text) == plain


# Single characters alone would hardly ever make a sequence.
TEXT = st.lists(
    st.one_of(
        st.text(max_size=3), st.sampled_from(["\x1b", "[", "]", "\x9b", "\x07", "0", ";", "m"])
    )
).map("".join)


@given(TEXT)
def test_nothing_that_a_terminal_obeys(text: str) -> None:
    plain = printable(text)
    assert not [c for c in plain if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n"]
    plain.encode()
    line = one_line(text, 50)
    assert len(line) <= 50
    assert len(line.splitlines()) <= 1
    assert not set(line) & set("\t\n")


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))))
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


def test_values_within_values() -> None:
    assert printable_values({"a\x1b": ["\x07b", {"c": "\x1b[1md"}, 1, None, True]}) == {
        "a": ["b", {"c": "d"}, 1, None, True]
    }


def test_a_message_that_quotes_a_guest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise KdeltaError("it says: \x1b]0;title\x07\x1b[2Jboo\nmore")

    monkeypatch.setattr(check, "_check", fail)
    assert main(["check", "x.yaml"]) == 1
    assert capsys.readouterr().err == "kdelta: it says: boo\nmore\n"


def test_the_detail_of_a_broken_rule() -> None:
    assert Breach("gate", 1, 0, "x\x1b[2J\n y").detail == "x y"
