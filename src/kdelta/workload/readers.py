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
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    return lookup_all([document], [path])[path][0]


def lookup_all(documents: Sequence[Any], paths: Iterable[str]) -> dict[str, list[Any]]:
    """`lookup` in many documents: path -> what each of them has there.

    A program prints the same keys nearly always, and a run has millions of values: where a path
    leads is found out once for all documents that have the same keys.
    """
    wanted = list(dict.fromkeys(paths))
    if {*map(type, documents)} == {dict} and len(kinds := {*map(tuple, documents)}) == 1:
        return _of_alike(kinds.pop(), documents, wanted)
    alike: dict[tuple[str, ...] | None, list[int]] = {}
    for place, document in enumerate(documents):
        keys = tuple(document) if isinstance(document, dict) else None
        alike.setdefault(keys, []).append(place)
    found: dict[str, list[Any]] = {path: [None] * len(documents) for path in wanted}
    for keys, places in alike.items():
        here = _of_alike(keys, [documents[place] for place in places], wanted)
        for path, column in here.items():
            for place, value in zip(places, column, strict=True):
                found[path][place] = value
    return found


def _of_alike(
    keys: tuple[str, ...] | None, documents: Sequence[Any], paths: list[str]
) -> dict[str, list[Any]]:
    """The same in documents that have the same keys, or in others than mappings."""
    if keys is None:
        return {path: [_in_list(document, path) for document in documents] for path in paths}
    here = [path for path in paths if path in keys]
    found = dict(zip(here, _values(documents, here), strict=True))
    below: dict[str, dict[str, str]] = {}
    for path in paths:
        if path in found:
            continue
        if not path:
            found[path] = [*documents]
            continue
        key, rest = next(((k, rest) for k, rest in _splits(path) if k in keys), (None, path))
        if key is None:
            found[path] = [None] * len(documents)
        else:
            below.setdefault(key, {})[path] = rest
    for key, rests in below.items():
        inside = lookup_all(_values(documents, [key])[0], rests.values())
        found |= {path: inside[rest] for path, rest in rests.items()}
    return found


def _values(documents: Sequence[Any], keys: Sequence[str]) -> list[list[Any]]:
    """What mappings have under keys that all of them have: a column for each key."""
    if len(keys) < 2:  # an itemgetter of one key gives no tuple
        return [[document[key] for document in documents] for key in keys]
    rows = map(operator.itemgetter(*keys), documents)
    return [list(column) for column in zip(*rows, strict=True)]


def _in_list(document: Any, path: str) -> Any:
    if not path or not isinstance(document, list):
        return None if path else document
    first, _, rest = path.partition(".")
    index = int(first) if re.fullmatch(r"\d{1,9}", first) else len(document)
    return lookup(document[index], rest) if index < len(document) else None


@functools.cache
def _splits(path: str) -> tuple[tuple[str, str], ...]:
    """A path's ways to be a key and a path below it, the longest key first."""
    parts = path.split(".")
    ends = range(len(parts) - 1, 0, -1)
    return tuple((".".join(parts[:end]), ".".join(parts[end:])) for end in ends)


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
    "regex": read_regex,
    "key-value": read_key_value,
    "csv": read_csv,
    "ktap": read_ktap,
    "nothing": lambda _text, _wanted: {},
}


def read_outputs(
    reader: Reader,
    outputs: Sequence[Any],
    wanted: Wanted,
    script: Path | None = None,
    *,
    needed: Collection[str] | None = None,
) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """What the outputs of many samples say, as columns, and which were not understood, and why.

    Args:
        reader: the workload's.
        outputs: what the program printed; of `json`, also the parsed documents; None: nothing.
        wanted: name -> where an output has it.
        script: of the reader `script`: a file with `parse(text)`, which gives a mapping.
        needed: names of which an output has to hold one at least; None: any that is wanted.

    Returns:
        name -> the value as it stands in each output, None where one lacks it; place of an output
        that is another one, or holds nothing that is needed -> why.
    """
    read: list[Any] = []
    wrong: dict[int, str] = {}
    parsed = reader == "json" and {*map(type, outputs)} <= {dict, list}
    if parsed:
        read = [*outputs]
    for place, output in enumerate(() if parsed else outputs):
        try:
            if output is None:
                raise ReadError("there is none")
            if reader == "script":
                read.append(_run_script(script, str(output)))
            elif reader == "json":
                read.append(parse_json(output) if isinstance(output, str) else output)
            else:
                read.append(_READERS[reader](output, wanted))
        except ReadError as error:
            read.append(None)
            wrong[place] = str(error)
    if reader in ("json", "script"):
        paths = lookup_all(read, wanted.values())
        columns = {name: paths[path] for name, path in wanted.items()}
    else:
        columns = {name: [one.get(name) if one else None for one in read] for name in wanted}
    told = [column for name, column in columns.items() if needed is None or name in needed]
    first = told[0] if told else []
    for place in [place for place, value in enumerate(first) if value is None]:
        if all(column[place] is None for column in told):
            names = ", ".join(sorted(w for n, w in wanted.items() if needed is None or n in needed))
            wrong.setdefault(place, f"the output holds none of {names}")
    return columns, wrong


def _run_script(script: Path | None, text: str) -> Any:
    if script is None:
        raise ReadError("the workload's script is not known")
    names: dict[str, Any] = {"__name__": script.stem}
    try:
        exec(compile(script.read_text(), str(script), "exec"), names)
        return names["parse"](text)
    except Exception as error:  # whatever the user's script does
        raise ReadError(f"{script.name}: {type(error).__name__}: {error}") from None
