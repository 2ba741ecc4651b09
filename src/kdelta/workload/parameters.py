# SPDX-License-Identifier: GPL-2.0-only
"""The parameters of a workload: the values that each takes, and how they become arguments."""

from __future__ import annotations

import math
import re
from typing import Literal, Self

from pydantic import Field, model_validator

from kdelta.units import parse_size_bytes
from kdelta.yaml_file import FileModel

Level = bool | int | float | str
"""A value as an experiment file has it."""

MAX_CPU = 1023

_CPU_LIST = re.compile(r"none|auto|[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")
_SIZE = re.compile(r"[0-9]{1,15}[KMGT]?")


class Parameter(FileModel):
    """One parameter."""

    type: Literal["count", "number", "size", "flag", "cpus", "text"] = Field(
        description="count: a whole number; number: any; size: bytes, such as 65536, 64K or 1M; "
        "flag: true or false; cpus: none, auto or a list of the guest's CPUs such as 0-3,8; text: "
        "any other word"
    )
    title: str = Field(default="", description="as tables call it; the name without it")
    unit: str = ""
    phrase: str = Field(
        default="",
        description="how a sentence tells its value, with {} for it: `{} writes` becomes "
        "`64 KiB writes`",
    )
    default: Level | None = Field(
        default=None,
        description="where an experiment says nothing; without it the program decides",
    )
    same_as: str | None = Field(
        default=None, description="another parameter, whose value it takes where nothing is said"
    )
    required: bool = Field(
        default=False, description="a cell without it is none: a factor, or one of the arguments"
    )
    minimum: int | float | str = Field(default=1, description="of a count, number or size")
    maximum: int | float | str | None = Field(
        default=None, description="of a count, number or size"
    )
    power_of_two: bool = False
    choices: list[str] | dict[str, list[str]] = Field(
        default_factory=list,
        description="the words that a text may be; without it any. As a mapping: with the words "
        "that each adds to the command, in place of `arguments`, with the command's placeholders",
    )
    arguments: tuple[str, ...] | None = Field(
        default=None,
        strict=False,
        description="what it adds to the command, {} standing for the value; without it --NAME "
        "VALUE, dashes for underscores, or --NAME alone for a flag. A false flag adds nothing",
    )
    reported: str | None = Field(
        default=None,
        description="where the output tells the value that was used: a sample that used another "
        "one than its cell's is set aside",
    )
    reported_true: str | None = Field(
        default=None, description="of a flag that is reported as a word: the word for true"
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for key in ("minimum", "maximum"):
            value = getattr(self, key)
            if isinstance(value, str):
                parse_size_bytes(value)
        if self.added_by_choice and self.arguments is not None:
            raise ValueError("choices say which arguments each adds; leave arguments out")
        return self

    @property
    def added_by_choice(self) -> dict[str, list[str]]:
        """The words that each choice adds to the command, where choices differ in that."""
        return self.choices if isinstance(self.choices, dict) else {}

    @property
    def least(self) -> float:
        """The smallest number that it takes."""
        return _bytes(self.minimum)

    @property
    def most(self) -> float:
        """The largest number that it takes."""
        return math.inf if self.maximum is None else _bytes(self.maximum)

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        many = f"from {self.least}" + ("" if self.maximum is None else f" to {self.most}")
        match self.type:
            case "count":
                return f"a whole number {many}"
            case "number":
                return f"a number {many}"
            case "size" if self.power_of_two:
                return f"a power of two of bytes {many}, for example 65536 or 1M"
            case "size":
                return f"bytes {many}, for example 65536, 64K or 1M"
            case "flag":
                return "true or false"
            case "cpus":
                return f"none, auto or a list of CPUs such as 0-3,8, none above {MAX_CPU}"
            case "text":
                return f"one of {', '.join(self.choices)}" if self.choices else "a word"

    def meaning(self, value: object) -> object:
        """What a value comes to, to be compared with ==: `64K` and 65536 are the same size.

        Numbers, bytes, truth, text, or CPUs in their order; None where it is not taken.
        """
        match self.type:
            case "flag":
                return value if isinstance(value, bool) else None
            case "cpus":
                return _cpus(value)
            case "text":
                if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
                    return None
                return str(value) if not self.choices or str(value) in self.choices else None
        number = _size(value) if self.type == "size" else _number(value)
        if number is None or not self.least <= number <= self.most:
            return None
        if self.type == "number":
            return float(number)
        if not isinstance(number, int):
            return None
        return None if self.power_of_two and number & (number - 1) else number

    def argv(self, name: str, value: Level) -> list[str]:
        """The arguments that set it; of choices that differ in them, templates as the command's.

        Args:
            name: of the parameter.
            value: one that it takes.
        """
        if value is False:
            return []
        if added := self.added_by_choice:
            return added[str(value)]
        flag = "--" + name.replace("_", "-")
        wanted = self.arguments
        if wanted is None:
            wanted = (flag,) if self.type == "flag" else (flag, "{}")
        return [word.replace("{}", self.text(value)) for word in wanted]

    def text(self, value: Level) -> str:
        """A value as programs are told it: sizes in bytes, since not all know `64K`."""
        return str(self.meaning(value) if self.type == "size" else value)


def highest_cpu(value: object) -> int | None:
    """The highest CPU that a value of type `cpus` names; None where it names none."""
    meaning = _cpus(value)
    return max(meaning) if isinstance(meaning, tuple) else None


def _bytes(value: int | float | str) -> int | float:
    return parse_size_bytes(value) if isinstance(value, str) else value


def _number(value: object) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _size(value: object) -> int | None:
    if isinstance(value, bool) or not _SIZE.fullmatch(str(value)):
        return None
    return parse_size_bytes(str(value)) if str(value).strip("0KMGT") else 0


def _cpus(value: object) -> str | tuple[int, ...] | None:
    text = str(value)
    if isinstance(value, bool) or not _CPU_LIST.fullmatch(text):
        return None
    if text in ("none", "auto"):
        return text
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) < int(first) or int(last or first) > MAX_CPU:
            return None
        cpus += range(int(first), int(last or first) + 1)
    # In the order in which workers take them; there cannot be more than CPUs.
    return tuple(cpus) if len(cpus) <= MAX_CPU + 1 else None
