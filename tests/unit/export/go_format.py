# SPDX-License-Identifier: GPL-2.0-only
"""A strict reader of the Go benchmark data format, written from its specification.

https://go.dev/design/14313-benchmark-format, and the lines of unit metadata as the
documentation of golang.org/x/perf/benchfmt has them. Where the specification says that a reader
ignores a line, this one refuses all but comments and blank lines: we write no others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# What Go's unicode.IsSpace takes for space.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_FIELD = re.compile(f"[^{_SPACE}]+")
_KEY = re.compile(f"([^{_SPACE}:]+):(?:[ \t]+(.*))?")
# The part of strconv.ParseFloat's decimal syntax that numbers of ours can have.
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Result:
    """One result line, its name taken apart."""

    base: str
    parts: dict[str, str]
    procs: int | None
    iterations: int
    values: dict[str, float]
    configuration: dict[str, str]


@dataclass
class File:
    """A whole file."""

    results: list[Result] = field(default_factory=list)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def parse(text: str) -> File:
    """Everything in a file; anything that is not of the format raises ValueError."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    file = File()
    configuration: dict[str, str] = {}
    for line in text[:-1].split("\n"):
        if not line or line.startswith("#"):
            file.comments += [line[1:].strip()] if line else []
        elif line.startswith("Benchmark"):
            file.results.append(_result(line, dict(configuration)))
        elif line.startswith("Unit "):
            _, unit, *pairs = _FIELD.findall(line)
            file.units[unit] = dict(_pair(pair) for pair in pairs)
        else:
            key, value = _configuration(line)
            configuration[key] = value
    return file


def _configuration(line: str) -> tuple[str, str]:
    found = _KEY.fullmatch(line)
    if found is None:
        raise ValueError(f"not a line of the format: {line!r}")
    key = found[1]
    if not key[0].islower() or any(letter.isupper() for letter in key):
        raise ValueError(f"not a key: {key!r}")
    return key, found[2] or ""


def _result(line: str, configuration: dict[str, str]) -> Result:
    name, *rest = _FIELD.findall(line)
    if not rest or len(rest) % 2 == 0:
        raise ValueError(f"a result has pairs of value and unit: {line!r}")
    iterations, *values = rest
    if not re.fullmatch(r"\d+", iterations):
        raise ValueError(f"not a number of iterations: {iterations!r}")
    base, parts, procs = _name(name)
    found: dict[str, float] = {}
    for value, unit in zip(values[::2], values[1::2], strict=True):
        if not _FLOAT.fullmatch(value):
            raise ValueError(f"not a number: {value!r}")
        if unit in found:
            raise ValueError(f"two values in {unit}: {line!r}")
        found[unit] = float(value)
    if not found:
        raise ValueError(f"no value: {line!r}")
    return Result(base, parts, procs, int(iterations), found, configuration)


def _name(name: str) -> tuple[str, dict[str, str], int | None]:
    after = name.removeprefix("Benchmark")
    if after and not after[0].isupper():
        raise ValueError(f"Benchmark is followed by an upper case letter: {name!r}")
    processors = re.search(r"-([1-9]\d*)$", name)
    if processors:
        name = name[: processors.start()]
    base, *parts = name.split("/")
    return base, dict(map(_pair, parts)), int(processors[1]) if processors else None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"not key=value: {text!r}")
    return key, value
