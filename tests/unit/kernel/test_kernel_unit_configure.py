# SPDX-License-Identifier: GPL-2.0-only
"""Config fragments: parsing, merging, and comparing with what came out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.kernel import kconfig
from kdelta.kernel.configure import (
    Option,
    compare,
    config_text,
    configure,
    count_set,
    mismatch_message,
    parse_config,
    parse_fragment,
    read_fragments,
)
from kdelta.kernel.process import clean_environment

PROJECT = Path(__file__).parents[3]


def test_fragment_lines() -> None:
    text = (
        "# a comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_D=n\nCONFIG_E=-12\n"
        'CONFIG_F=0x1F\n  CONFIG_G="a \\"b\\" =c"\n# CONFIG_H=y as a remark\n'
    )
    assert [(o.name, o.value, o.line) for o in parse_fragment(text, "f")] == [
        ("CONFIG_A", "y", 3),
        ("CONFIG_B", "n", 4),
        ("CONFIG_C", "m", 5),
        ("CONFIG_D", "n", 6),
        ("CONFIG_E", "-12", 7),
        ("CONFIG_F", "0x1F", 8),
        ("CONFIG_G", '"a \\"b\\" =c"', 9),
    ]


@pytest.mark.parametrize(
    "line", ["CONFIG_A", "CONFIG_A=yes", "A=y", "CONFIG_A = y", 'CONFIG_A="x', "CONFIG_A=y # why"]
)
def test_malformed_line_is_named(line: str) -> None:
    with pytest.raises(KdeltaError) as caught:
        parse_fragment(f"CONFIG_OK=y\n\n{line}\n", "kernel-configs/x.config")
    assert str(caught.value).startswith("kernel-configs/x.config:3: not a line of a config")
    assert line in str(caught.value)


def test_what_a_tree_says_of_a_compiler_is_not_lost_among_makes_own_lines(tmp_path: Path) -> None:
    """Of Linux 7.2 and clang 14: three makes within one another complain after the reason."""
    said = ["***", "*** C compiler is too old.", "***   Minimum Clang version: 17.0.1", "***"]
    said += ["scripts/Kconfig.include:45: Sorry, this C compiler is not supported."]
    depth = "$(words $(MAKELEVELS))"
    (tmp_path / "Makefile").write_text(
        f"MAKELEVELS += x\nexport MAKELEVELS\n%config:\nifeq ({depth},5)\n"
        + "".join(f"\t@echo '{line}' >&2\n" for line in said)
        + "\t@false\nelse\n\t@$(MAKE) $@\nendif\n"
    )
    with (tmp_path / "log").open("wb") as log, pytest.raises(KdeltaError) as caught:
        configure(
            ["make", "-C", str(tmp_path)],
            clean_environment(),
            tmp_path,
            tmp_path / "obj",
            "defconfig",
            {},
            "Linux 7.2",
            "arch/x86",
            log,
        )
    told = str(caught.value).splitlines()
    assert told[0] == "`make defconfig` failed; its last lines:"
    assert [line.strip() for line in told[1:6]] == said
    assert told[6] == "Name a newer one in kernel.compiler or arms.<name>.compiler"
    assert told[7:] == [f"The whole output is in {tmp_path / 'log'}"]


def test_a_later_fragment_wins_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("CONFIG_A=y\nCONFIG_B=y\n")
    (tmp_path / "two").write_text("# CONFIG_A is not set\n")
    merged = read_fragments([tmp_path / "one", tmp_path / "two"])
    assert merged["CONFIG_A"] == Option("CONFIG_A", "n", str(tmp_path / "two"), 1)
    assert merged["CONFIG_B"].value == "y"


def test_missing_fragment(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match="the config fragment cannot be read"):
        read_fragments([tmp_path / "none"])


def test_compare() -> None:
    asked = parse_fragment(
        "CONFIG_Y=y\nCONFIG_GONE=y\nCONFIG_OFF=n\nCONFIG_FORCED=n\nCONFIG_MOD=m\nCONFIG_N=64\n"
        'CONFIG_S="x"\n',
        "f",
    )
    config = parse_config(
        "CONFIG_Y=y\n# CONFIG_GONE is not set\nCONFIG_FORCED=y\nCONFIG_MOD=y\nCONFIG_N=32\n"
        'CONFIG_S="x"\n'
    )
    assert [(m.asked.name, m.asked.value, m.got) for m in compare(asked, config)] == [
        ("CONFIG_GONE", "y", "n"),
        ("CONFIG_FORCED", "n", "y"),
        ("CONFIG_MOD", "m", "y"),
        ("CONFIG_N", "64", "32"),
    ]


values = st.one_of(
    st.sampled_from(["y", "m", "n"]),
    st.integers().map(str),
    st.integers(min_value=0).map(hex),
    st.from_regex(r'"[a-z #=]*"', fullmatch=True),
)
configs = st.dictionaries(st.from_regex(r"CONFIG_[A-Z0-9_]{1,8}", fullmatch=True), values)


@given(configs)
def test_what_is_written_is_read_again(config: dict[str, str]) -> None:
    text = config_text(config)
    assert parse_config(text) == config
    assert {o.name: o.value for o in parse_fragment(text, "f")} == config
    assert compare(parse_fragment(text, "f"), config) == []
    assert count_set(config) == sum(1 for line in text.splitlines() if not line.startswith("#"))


def test_message_has_place_values_and_hint(tmp_path: Path) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "arch/arm64").mkdir(parents=True)
    (tmp_path / "arch/arm64/Kconfig").write_text("config ZRAM\n\tdepends on ARM_ONLY\n")
    (tmp_path / "mm/Kconfig").write_text(
        "config ZRAM\n\ttristate\n\tdepends on BLOCK && SYSFS\n\tdepends on ZSMALLOC\n\n"
        "config NOISY\n\tbool\n\nconfig BOSS\n\tbool\n\tselect NOISY\n"
    )
    asked = parse_fragment("CONFIG_ZRAM=y\n# CONFIG_NOISY is not set\nCONFIG_TYPO=y\n", "g.config")
    mismatches = compare(asked, {"CONFIG_NOISY": "y"})
    message = mismatch_message(mismatches, "Linux 6.12.1", tmp_path, "arch/x86")
    assert "Linux 6.12.1: 3 option(s) did not take" in message
    assert (
        "g.config:1: CONFIG_ZRAM: asked y, got n; defined at mm/Kconfig:1; "
        "depends on BLOCK && SYSFS, ZSMALLOC"
    ) in message
    assert (
        "g.config:2: CONFIG_NOISY: asked n, got y; defined at mm/Kconfig:6; selected by BOSS"
        in (message)
    )
    assert "g.config:3: CONFIG_TYPO: asked y, got n; this kernel has no such option" in message


def test_choice_and_if_end_an_entry() -> None:
    text = "config A\n\tdepends on X\nchoice\n\tdepends on NOT_OF_A\nendchoice\n"
    found = kconfig.find_definitions([("K", text)], ["A"])
    assert found["A"].depends == ["X"]


@pytest.mark.parametrize("name", sorted(p.name for p in PROJECT.glob("kernel-configs/*.config")))
def test_shipped_fragments_say_why(name: str) -> None:
    """Every group of options has a comment above it, and no option comes twice."""
    text = (PROJECT / "kernel-configs" / name).read_text()
    options = [option.name for option in parse_fragment(text, name)]
    assert len(options) == len(set(options))
    for group in text.split("\n\n"):
        lines = group.strip().splitlines()
        assert lines[0].startswith("#"), group
