# SPDX-License-Identifier: GPL-2.0-only
"""Numbers, sizes and levels as text. Plain ASCII; the page and the paper typeset it further."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping
from statistics import median

from kdelta.plain import plural as plural
from kdelta.report.context import Factor, ReportContext

NO_INTERVAL = "[n/a]"

Row = Mapping[Hashable, object]
"""A row of a table: column to field."""


def format_level(value: object) -> str:
    """A factor level as its label: ``1`` for 1.0, ``true`` for True, everything else as is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def order_levels(observed: Iterable[str], declared: Iterable[str] = ()) -> tuple[str, ...]:
    """The union of planned and observed levels: numbers by value, else planned order first."""
    levels = list(dict.fromkeys([*declared, *sorted(set(observed))]))
    try:
        return tuple(sorted(levels, key=float))
    except ValueError:
        return tuple(levels)


def format_percent(percent: float, decimals: int) -> str:
    """A signed percentage such as ``+21%``; ``n/a`` when there is none."""
    if not math.isfinite(percent):
        return "n/a"
    return f"{_signed(percent, decimals)}%"


def format_interval(low: float, high: float, decimals: int) -> str:
    """An interval in percent such as ``[+18, +24]``; ``[n/a]`` when there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NO_INTERVAL
    return f"[{_signed(low, decimals)}, {_signed(high, decimals)}]"


def _signed(value: float, decimals: int) -> str:
    # Rounding first keeps "-0" off the page: its sign would contradict the verdict beside it.
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def percent_decimals(lows: Iterable[float], highs: Iterable[float]) -> int:
    """Digits after the point that the intervals of a report deserve: 0 or 1.

    Whole percents, as in a cover letter, unless an interval's end would round to zero (and hide
    its sign) or half of the intervals are narrower than 4 points.
    """
    pairs = [
        (low, high)
        for low, high in zip(lows, highs, strict=True)
        if math.isfinite(low) and math.isfinite(high)
    ]
    if not pairs:
        return 0
    widths = sorted(high - low for low, high in pairs)
    hidden = hides_sign(end for pair in pairs for end in pair)
    return 1 if hidden or widths[len(widths) // 2] < 4 else 0


def hides_sign(ends: Iterable[float]) -> bool:
    """Whether an interval's end, in whole percents, would be a zero beside a verdict."""
    return any(abs(end) < 0.5 for end in ends)


def value_decimals(values: Iterable[float]) -> int:
    """Digits after the point that show a table's values to about three significant digits."""
    finite = sorted(v for v in values if math.isfinite(v))
    if not finite:
        return 0
    median = abs(finite[len(finite) // 2])
    if median >= 100:
        return 0
    return 1 if median >= 10 else 2


def format_value(value: float, decimals: int) -> str:
    """A measured value, without unit; ``n/a`` when there is none."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else "n/a"


def group_digits(number: str, separator: str) -> str:
    """Group the whole part of a formatted number by threes where it has five digits or more."""
    whole, point, rest = number.partition(".")
    if len(whole) < 5 or not whole.isdigit():
        return number
    return re.sub(r"(?<=\d)(?=(?:\d{3})+$)", separator, whole) + point + rest


def format_quantity(value: float) -> str:
    """A count, rate or time to three significant digits or whole; ``n/a`` when there is none."""
    if not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if size == 0 or size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.2f}".rstrip("0").rstrip(".") if size >= 0.01 else "<0.01"


def format_spread(values: Iterable[float]) -> str:
    """Median and range, ``16 (8 to 31)``; one number where all are the same."""
    finite = sorted(v for v in values if math.isfinite(v))
    if not finite:
        return "n/a"
    middle, low, high = (format_quantity(v) for v in (median(finite), finite[0], finite[-1]))
    return middle if low == high else f"{middle} ({low} to {high})"


def format_share(share: float) -> str:
    """A share of 0 to 1 in whole per cent; never ``0%`` or ``100%`` for less than all or some."""
    if not math.isfinite(share):
        return "n/a"
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share * 100:.0f}%"


def format_size(size: int) -> str:
    """Bytes in the largest binary unit that divides them: ``64 KiB``, ``1 MiB``, ``100 B``."""
    for unit, step in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= step and size % step == 0:
            return f"{size // step} {unit}"
    return f"{size} B"


def format_seconds(seconds: float) -> str:
    """Seconds without trailing zeros: ``0.6 s``, ``10 s``."""
    return f"{seconds:g} s"


def join_words(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def typeset_minus(text: str) -> str:
    """Replace the hyphen of negative numbers by a minus sign, for outputs beyond ASCII."""
    return re.sub(r"(?<![\w.)\]-])-(?=\d)", "\N{MINUS SIGN}", text)


def level_label(factor: Factor, level: str) -> str:
    """A level as it is shown: bytes as ``64 KiB``, everything else as in the tables."""
    if factor.unit in ("B", "bytes") and level.isdigit():
        return format_size(int(level))
    return level


def level_words(factor: Factor, level: str) -> str:
    """A factor with one of its levels: ``write size = 64 KiB``, ``load = 50 %``."""
    label = level_label(factor, level)
    unit = f" {factor.unit}" if factor.unit and label == level else ""
    return f"{factor.title} = {label}{unit}"


def cell_heads(context: ReportContext) -> tuple[str, ...]:
    """The headings over ``cell_labels``."""
    return tuple(factor.title for factor in context.factors)


def cell_labels(context: ReportContext, row: Row) -> tuple[str, ...]:
    """The levels of a row's cell, one per factor."""
    return tuple(level_label(factor, str(row[factor.name])) for factor in context.factors)


def cell_words(context: ReportContext, row: Row) -> str:
    """A row's cell in words: ``writers = 1, readers = 5``."""
    return ", ".join(level_words(factor, str(row[factor.name])) for factor in context.factors)
