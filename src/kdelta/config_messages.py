# SPDX-License-Identifier: GPL-2.0-only
"""What a failed validation says to the author of the file: one line for every key at fault."""

from __future__ import annotations

import datetime
import difflib
import re
import reprlib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Json = dict[str, Any]
Path = tuple[int | str, ...]

# YAML reads these where an author meant text: 6.12, 2026-05-15, yes.
_UNQUOTED = (bool, int, float, datetime.date)

# pydantic speaks to people who write Python.
_PYDANTICS_WORDS = (
    (re.compile(r"^(String|List|Tuple|Dictionary) should"), "should"),
    (re.compile(r" after validation, not \d+$"), ""),
    (re.compile(r"a valid dictionary( or instance of \w+)?"), "a mapping of keys to values"),
    (re.compile(r"a valid (list|tuple)"), "a list"),
    (re.compile(r"a valid integer"), "a whole number"),
    (re.compile(r"a valid string"), "text"),
    (re.compile(r"a valid boolean"), "true or false"),
    (re.compile(r"a valid number"), "a number"),
)

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80


def problem_lines(error: ValidationError, model: type[BaseModel], data: object) -> list[str]:
    """The problems of a file, each with key, value and what was expected.

    Args:
        error: what pydantic found.
        model: what the file should have been.
        data: what was read from it.
    """
    schema = model.model_json_schema()
    lines: dict[str, str] = {}
    united: dict[str, tuple[str, list[str]]] = {}
    details = error.errors(include_url=False)
    mistyped = _mistyped(details, data, schema)
    for detail in details:
        path = _path_in_file(detail, data)
        key = ".".join(map(str, path)) or "(top level)"
        if detail["type"] == "missing" and key in mistyped:
            continue
        line = _whole_line(detail, key, path, schema)
        if line is not None:
            lines[key] = line
            continue
        # A value that may be of several types fails once for each of them.
        _, messages = united.setdefault(key, (_ending(detail, path, schema), []))
        message = _message(detail)
        if message not in messages:
            messages.append(message)
        lines[key] = f"{key}: {' or '.join(messages)}{united[key][0]}"
    return list(lines.values())


def _mistyped(details: list[ErrorDetails], data: object, schema: Json) -> set[str]:
    """Required keys that are missing because they are misspelt: one mistake, one line."""
    keys = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path = _path_in_file(detail, data)
            keys.add(".".join(map(str, (*path[:-1], _closest(path, schema)))))
    return keys


def _closest(path: Path, schema: Json) -> str | None:
    close = difflib.get_close_matches(str(path[-1]), _known_keys(schema, path[:-1]), n=1)
    return close[0] if close else None


def _path_in_file(detail: ErrorDetails, data: object) -> Path:
    """Where the file has the problem: pydantic's location without the names of types in it."""
    path: list[int | str] = []
    node: Any = data
    for position, part in enumerate(detail["loc"]):
        in_mapping = isinstance(node, dict) and part in node
        in_list = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if in_mapping or in_list:
            node = node[part]
        elif not (detail["type"] == "missing" and position == len(detail["loc"]) - 1):
            continue
        path.append(part)
    return tuple(path)


def _whole_line(detail: ErrorDetails, key: str, path: Path, schema: Json) -> str | None:
    """The line of an error that is about a key; None for one that is about its value."""
    match detail["type"]:
        case "extra_forbidden":
            known = sorted(_known_keys(schema, path[:-1]))
            close = _closest(path, schema)
            hint = f"did you mean {close!r}?" if close else f"keys here: {', '.join(known)}"
            return f"{key}: unknown key (value {_SHOWN.repr(detail['input'])}); {hint}"
        case "missing":
            return f"{key}: this key is required"
        case "union_tag_not_found":
            tag = detail["ctx"]["discriminator"].strip("'")
            known = sorted(
                str(node["properties"][tag]["const"])
                for node in _nodes(schema, path)
                if tag in node.get("properties", {})
            )
            return f"{key}.{tag}: this key is required; it is one of {', '.join(known)}"
        case "union_tag_invalid":
            tag = detail["ctx"]["discriminator"].strip("'")
            expected = detail["ctx"]["expected_tags"]
            return f"{key}.{tag}: should be one of {expected}, found {detail['ctx']['tag']!r}"
        case "value_error" if not detail["loc"]:
            return _message(detail)  # a check across keys names them itself
    return None


def _message(detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    for pattern, words in _PYDANTICS_WORDS:
        message = pattern.sub(words, message)
    return f"this name {message}" if detail["loc"][-1:] == ("[key]",) else message


def _ending(detail: ErrorDetails, path: Path, schema: Json) -> str:
    if detail["type"] == "value_error":
        return ""  # our own checks say what they found
    value = detail["input"]
    if value is None:
        return ", found nothing; give a value, or leave the key out if it has a default"
    ending = f", found {_SHOWN.repr(value)}"
    match detail["type"]:
        case "string_type" if isinstance(value, _UNQUOTED):
            return ending + "; put it in quotes"
        case "list_type" | "tuple_type" if isinstance(value, str | int | float):
            return f"{ending}; write [{_SHOWN.repr(value)}]"
        case "int_type" | "float_type" if isinstance(value, str):
            is_number = re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", value.strip())
            return ending + (
                "; without quotes" if is_number else "; a number alone, no unit or word"
            )
        case "bool_type":
            return ending + "; without quotes"
    if detail["type"] == "string_pattern_mismatch" and path:
        for node in _nodes(schema, path[:-1]):
            description = node.get("properties", {}).get(path[-1], {}).get("description")
            if description:
                return f"{ending} ({description})"
    return ending


def _known_keys(schema: Json, path: Path) -> set[str]:
    return {name for node in _nodes(schema, path) for name in node.get("properties", {})}


def _nodes(schema: Json, path: Path) -> list[Json]:
    """The parts of a JSON schema that describe the value at `path`; several for a union."""
    nodes = list(_resolved(schema, schema))
    for part in path:
        children = [child for node in nodes for child in _children(node, part)]
        nodes = [found for child in children for found in _resolved(child, schema)]
    return nodes


def _resolved(node: Json, schema: Json) -> Iterator[Json]:
    if "$ref" in node:
        yield from _resolved(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
        return
    for choice in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _resolved(choice, schema)
    yield node


def _children(node: Json, part: int | str) -> list[Json]:
    if isinstance(part, int):
        return [node["items"]] if "items" in node else []
    if part in node.get("properties", {}):
        return [node["properties"][part]]
    others = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    return [other for other in others if isinstance(other, dict)]
