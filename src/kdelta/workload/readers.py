# SPDX-License-Identifier: GPL-2.0-only
"""What a workload printed, as values: one reader a format.

A reader is told what is wanted, name -> where the output has it, and gives what it found. What it
does not find is missing, and not an error: a program may print a value only sometimes. Output in
which nothing wanted is found was not understood.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdelta.workload.declaration import Reader

Found = dict[str, Any]
Wanted = Mapping[str, str]

_NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
_KTAP = re.compile(r"^\s*(not )?ok\s+\d+\s+(?P<description>.*)$")


class ReadError(ValueError):
    """The output is not what the workload said that it would be."""


def as_number(text: str) -> float | None:
    """The first number in a text, thousands with or without commas; None if it has none."""
    match = _NUMBER.search(text)
    return None if match is None else float(match[0].replace(",", ""))


def lookup(document: Any, path: str) -> Any:
    """What a JSON document has at a path such as `write_latency_ns.p99.9` or `jobs.0.read.bw`.

    A key may hold dots itself: the longest one that fits is taken. None if there is nothing.
    """
    if not path:
        return document
    if isinstance(document, dict):
        if path in document:  # nearly always, and a run has millions of values
            return document[path]
        for key, rest in _splits(path):
            if key in document:
                return lookup(document[key], rest)
        return None
    if isinstance(document, list):
        parts = path.split(".")
        index = int(parts[0]) if re.fullmatch(r"\d{1,9}", parts[0]) else len(document)
        inside = index < len(document)
        return lookup(document[index], ".".join(parts[1:])) if inside else None
    return None


@functools.cache
def _splits(path: str) -> tuple[tuple[str, str], ...]:
    """A path's ways to be a key and a path below it, the longest key first."""
    parts = path.split(".")
    ends = range(len(parts) - 1, 0, -1)
    return tuple((".".join(parts[:end]), ".".join(parts[end:])) for end in ends)


def read_json(output: Any, wanted: Wanted) -> Found:
    """Values of one JSON document: the whole output, or its last line that is one."""
    document = parse_json(output) if isinstance(output, str) else output
    return {name: lookup(document, path) for name, path in wanted.items()}


def parse_json(text: str) -> Any:
    """The JSON document of an output.

    Raises:
        ReadError: there is none.
    """
    for candidate in (text, *reversed(text.strip().splitlines())):
        try:
            found = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(found, dict | list):
            return found
    raise ReadError("the output holds no JSON document")


def read_regex(text: str, wanted: Wanted) -> Found:
    """The group of each pattern's last match: a program that reports often says the final last."""
    found: Found = {}
    for name, pattern in wanted.items():
        for match in re.finditer(pattern, text, re.MULTILINE):
            found[name] = match[1] if match.re.groups else match[0]
    return found


def read_key_value(text: str, wanted: Wanted) -> Found:
    """Lines or words `key=value` and lines `key: value`."""
    found = dict(re.findall(r"^\s*([^:=\n]+?)\s*[:=]\s*(.+?)\s*$", text, re.MULTILINE))
    found |= dict(re.findall(r"(\S+?)=(\S+)", text))
    return {name: found[key] for name, key in wanted.items() if key in found}


def read_csv(text: str, wanted: Wanted) -> Found:
    """Columns of the last row of a table with a header."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines)), skipinitialspace=True))
    if not rows:
        raise ReadError("the output holds no table: a header and a row below it")
    return {name: rows[-1].get(column) for name, column in wanted.items()}


def read_ktap(text: str, wanted: Wanted) -> Found:
    """Numbers in the descriptions of a kselftest's results.

    A wanted pattern's group is looked for in each line `ok N description`.

    Raises:
        ReadError: a test failed, or there are no results.
    """
    results = [match for line in text.splitlines() if (match := _KTAP.match(line))]
    failed = [match["description"] for match in results if match[1]]
    if failed:
        raise ReadError(f"not ok: {failed[0]}")
    if not results:
        raise ReadError("the output holds no KTAP results")
    return read_regex("\n".join(match["description"] for match in results), wanted)


_READERS: dict[Reader, Callable[[Any, Wanted], Found]] = {
    "json": read_json,
    "regex": read_regex,
    "key-value": read_key_value,
    "csv": read_csv,
    "ktap": read_ktap,
    "nothing": lambda _text, _wanted: {},
}


def read_output(reader: Reader, output: Any, wanted: Wanted, script: Path | None = None) -> Found:
    """What a sample's output says.

    Args:
        reader: the workload's.
        output: what the program printed; of `json`, also the parsed document.
        wanted: name -> where the output has it.
        script: of the reader `script`: a file with `parse(text)`, which gives a mapping.

    Returns:
        The values that were found, as they stand there.

    Raises:
        ReadError: nothing wanted is there, or the output is another one.
    """
    if reader == "script":
        document = _run_script(script, str(output))
        found = {name: lookup(document, path) for name, path in wanted.items()}
    else:
        found = _READERS[reader](output, wanted)
    found = {name: value for name, value in found.items() if value is not None}
    if wanted and not found:
        raise ReadError(f"the output holds none of {', '.join(sorted(wanted.values()))}")
    return found


def _run_script(script: Path | None, text: str) -> Any:
    if script is None:
        raise ReadError("the workload's script is not known")
    names: dict[str, Any] = {"__name__": script.stem}
    try:
        exec(compile(script.read_text(), str(script), "exec"), names)
        return names["parse"](text)
    except Exception as error:  # whatever the user's script does
        raise ReadError(f"{script.name}: {type(error).__name__}: {error}") from None
