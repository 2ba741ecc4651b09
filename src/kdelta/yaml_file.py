# SPDX-License-Identifier: GPL-2.0-only
"""Reading YAML files into models: every mistake in them becomes one clear message."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from kdelta.config_messages import problem_lines
from kdelta.errors import KdeltaError

M = TypeVar("M", bound=BaseModel)


class FileModel(BaseModel):
    """Base of everything that a person writes into a YAML file."""

    # Strict: YAML has types, and `blocks: yes` is a mistake, not one block.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def parse_model(
    model: type[M], data: Any, path: Path, context: Mapping[str, Any] | None = None
) -> M:
    """Validate `data`, read from `path`, against a model.

    Args:
        model: what it has to be.
        data: what was read.
        path: the file, for messages.
        context: what the model's validators are told besides.

    Raises:
        KdeltaError: naming the file and, a line each, what is wrong.
    """
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise KdeltaError(
            f"{path}: expected a mapping of keys to values (lines such as `name: value`), found "
            f"{found}"
        )
    try:
        return model.model_validate(data, context=dict(context or {}))
    except ValidationError as error:
        problems = problem_lines(error, model, data)
        raise KdeltaError("\n".join(f"{path}: {problem}" for problem in problems)) from None


def read_yaml(path: Path) -> Any:
    """The YAML document in `path`.

    Raises:
        KdeltaError: missing, unreadable or not YAML (with line and column).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KdeltaError(f"{path}: no such file; give the path of an experiment file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise KdeltaError(
            f"{path}:{line}: cannot be read: not UTF-8 (byte {error.object[error.start]:#x}); save "
            "the file as UTF-8"
        ) from None
    except IsADirectoryError:
        raise KdeltaError(f"{path}: cannot be read: a folder; give a file") from None
    except (OSError, ValueError) as error:  # ValueError: no possible path
        raise KdeltaError(f"{path}: cannot be read: {error}") from None
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise KdeltaError(
            f"{path}{where}: not valid YAML: {error.problem}{_yaml_advice(error, text)}"
        ) from None
    except yaml.YAMLError as error:
        raise KdeltaError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise KdeltaError(f"{path}: not valid YAML: nested too deeply") from None


# What the parser says -> what the author can do about it.
_YAML_ADVICE = {
    "found character '\\t'": "indent with blanks, not with tabs",
    "mapping values are not": "indent keys of one mapping alike, and quote text that holds a colon",
    "expected <block end>": "indent what belongs together alike, and quote the whole text",
    "is given twice": "keep one",
    "found another document": "a file holds one document: remove the line with ---",
    "expected ',' or": "close the bracket",
    "while scanning a quoted": "close the quotes",
}


def _yaml_advice(error: yaml.MarkedYAMLError, text: str) -> str:
    """Advice on a mistake in the YAML, and the line that it was found in."""
    said = f"{error.context or ''} {error.problem or ''}"
    advice = next((words for sign, words in _YAML_ADVICE.items() if sign in said), "")
    lines = text.splitlines()
    mark = error.problem_mark
    # A bracket or quote that is never closed is found out about far behind it.
    if error.context_mark and advice.startswith("close"):
        mark = error.context_mark
        advice += f" that line {mark.line + 1} opens"
    line = lines[mark.line].strip() if mark and mark.line < len(lines) else ""
    if line.isprintable() and line:
        advice += f"{', ' if advice else ''}in: {line[:80]}"
    return f"; {advice}" if advice else ""


class _Loader(yaml.SafeLoader):
    """YAML with every mistake in it told with its place.

    SafeLoader takes the last of two equal keys silently, and lets what a value
    looks like but is not (2026-13-45) end in Python's own errors.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is not a valid {kind}; quote it", node.start_mark
            ) from None


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, "a key has to be a plain word", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
