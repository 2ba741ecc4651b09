# SPDX-License-Identifier: GPL-2.0-only
"""Numbers and sizes as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.report.formatting import (
    NO_INTERVAL,
    format_interval,
    format_level,
    format_percent,
    format_quantity,
    format_share,
    format_size,
    format_spread,
    format_value,
    group_digits,
    hides_sign,
    join_words,
    order_levels,
    percent_decimals,
    plural,
    typeset_minus,
    value_decimals,
)


def test_percent_carries_its_sign_and_never_a_negative_zero() -> None:
    assert format_percent(21.3, 0) == "+21%"
    assert format_percent(-17.26, 1) == "-17.3%"
    assert format_percent(-0.04, 1) == "+0.0%"
    assert format_percent(math.nan, 0) == "n/a"


def test_interval_is_given_or_said_to_be_missing() -> None:
    assert format_interval(18.2, 23.9, 0) == "[+18, +24]"
    assert format_interval(-3.0, math.nan, 0) == NO_INTERVAL


def test_digits_follow_the_intervals() -> None:
    assert percent_decimals([15, 10, 20], [25, 22, 40]) == 0
    assert percent_decimals([15, 10, 20], [16, 12, 21]) == 1
    assert percent_decimals([0.2, 10, 20], [25, 22, 40]) == 1, "+0 would hide the sign"
    assert percent_decimals([math.nan], [math.nan]) == 0
    assert hides_sign([-12.4, -0.489])
    assert not hides_sign([-12.4, -0.5, math.nan])


@pytest.mark.parametrize(("values", "digits"), [([1119, 1354], 0), ([61.2, 70.1], 1), ([3.2], 2)])
def test_values_show_about_three_digits(values: list[float], digits: int) -> None:
    assert value_decimals(values) == digits


@pytest.mark.parametrize(
    ("value", "label"),
    [(1.0, "1"), (0.5, "0.5"), (4096, "4096"), (True, "true"), ("threads", "threads")],
)
def test_level_labels(value: object, label: str) -> None:
    assert format_level(value) == label


def test_levels_are_ordered_by_value_and_planned_ones_stay() -> None:
    assert order_levels({"10", "1", "5"}) == ("1", "5", "10")
    assert order_levels({"1"}, ("1", "2")) == ("1", "2")
    assert order_levels({"on", "off"}, ("off", "on")) == ("off", "on")


@given(st.integers(min_value=0, max_value=10**15), st.integers(min_value=0, max_value=3))
def test_grouping_only_adds_separators(whole: int, digits: int) -> None:
    number = format_value(float(whole), digits)
    grouped = group_digits(number, " ")
    assert grouped.replace(" ", "") == number
    assert all(len(part.split(".")[0]) == 3 for part in grouped.split(" ")[1:])


def test_grouping_leaves_four_digits_alone() -> None:
    assert group_digits("1119", ",") == "1119"
    assert group_digits("271293", ",") == "271,293"


def test_minus_is_typeset_in_numbers_only() -> None:
    assert typeset_minus("-17% [-20, -12] pre-alloc 1-2 --vm-bytes") == (
        "−17% [−20, −12] pre-alloc 1-2 --vm-bytes"
    )


def test_words_and_sizes() -> None:
    assert format_size(65536) == "64 KiB"
    assert format_size(100) == "100 B"
    assert format_size(4097) == "4097 B"
    assert plural(1, "block") == "1 block"
    assert join_words(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (113333.4, "113333"),
        (47.53, "47.5"),
        (16.0, "16"),
        (1.5, "1.5"),
        (0.0042, "<0.01"),
        (float("nan"), "n/a"),
    ],
)
def test_quantities_keep_three_digits(value: float, text: str) -> None:
    assert format_quantity(value) == text


def test_spread_is_one_number_where_all_are_alike() -> None:
    assert format_spread([8.0, 8.0, 8.001]) == "8"
    assert format_spread([1, 31, 16, float("nan")]) == "16 (1 to 31)"
    assert format_spread([]) == "n/a"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (0.001, "<1%"), (0.5, "50%"), (0.999, ">99%"), (1, "100%")],
)
def test_a_share_never_rounds_to_all_or_nothing(share: float, text: str) -> None:
    assert format_share(share) == text
