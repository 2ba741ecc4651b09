# SPDX-License-Identifier: GPL-2.0-only
"""A workload, as `workloads/<name>/workload.yaml` describes it.

What is measured is a folder: the program, how it is called, what its output says, what has to
hold of that. Nothing else of kdelta knows any workload.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kdelta.schema import BY_PATH, COLUMN_NAMES
from kdelta.workload.expression import Expression
from kdelta.workload.parameters import Level, Parameter
from kdelta.yaml_file import FileModel

Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]

Direction = Literal["higher", "lower"]
Reader = Literal["json", "regex", "key-value", "csv", "ktap", "script", "nothing"]

_LENGTHS = ("seconds", "whole_seconds", "milliseconds")
_PLACEHOLDERS = frozenset((*_LENGTHS, "warmup", "timeout", "program", "parameters", "disk"))
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"

ELAPSED = "elapsed_s"
"""A value that every workload has: the seconds that its command ran, measured in the guest."""


class Program(FileModel):
    """Where the program comes from. Exactly one of `source`, `package` and `tree` is given."""

    source: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]+\.c$",
        description="one C file in the workload's folder, built static with the host's compiler",
    )
    package: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9+.-]+$",
        description="a Debian package of the host, whose root file system the guest has",
    )
    tree: str | None = Field(
        default=None,
        pattern=rf"^{_PART}(/{_PART})+$",
        description="of the kernel tree that the baseline is built from, without patches: a C "
        "file, built likewise, or a folder with a Makefile, whose program is then `command`",
    )
    command: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.+-]+$",
        description="with package, or a folder of the tree: the program's name; without it the "
        "package's or folder's",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.source, self.package, self.tree)) != 1:
            raise ValueError("program: give one of source, package and tree")
        if self.command is not None and (self.source or self.tree_file):
            raise ValueError(
                "program: command is the name of a program of a package or of a folder of the "
                "tree; a C file's is its own"
            )
        return self

    @property
    def built(self) -> bool:
        """Whether it is built for guests, or the host has it."""
        return self.package is None

    @property
    def tree_file(self) -> bool:
        """Whether it is one C file of the kernel's tree."""
        return self.tree is not None and self.tree.endswith(".c")

    @property
    def name(self) -> str:
        """The program's file name among those that are built; of a package, the host's."""
        if self.source is not None:
            return self.source.removesuffix(".c")
        if self.tree is None:
            return self.command or str(self.package)
        # All of its path: another workload may have a program of the same name.
        return self.tree.removesuffix(".c").replace("/", "-") + (
            f"-{self.command}" if self.command else ""
        )


class Value(FileModel):
    """A number or word that each sample has: read from the output, or made of others."""

    read: str | None = Field(
        default=None,
        description="where the output has it: a path with dots (json), a pattern with one group "
        "(regex), a key (key-value), a column (csv), a part of a test's description (ktap)",
    )
    expression: Expression | None = Field(
        default=None, description="arithmetic on other values of the sample and its parameters"
    )
    type: Literal["integer", "number", "text", "flag"] = "number"
    unit: str = ""
    meaning: str = Field(default="", description="for the data dictionary")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.read is not None and self.expression is not None:
            raise ValueError("give one of read and expression")
        return self


class Metric(Value):
    """A value that arms are compared by."""

    title: str = Field(min_length=1, description="as tables are headed")
    short: str = Field(default="", description="within a sentence; the title in lower case")
    better: Direction = Field(description="which way is better")
    primary: bool = Field(default=False, description="verdicts are about it; one of them is")
    shown: Literal["main", "detail"] = Field(
        default="main", description="in every output, or on the page only, folded"
    )
    slug: str = Field(
        default="",
        pattern=r"^([a-z]+(-[a-z]+)*)?$",
        description="in names of files and LaTeX macros, letters and dashes",
    )
    remark: str = Field(default="", description="a sentence that claims about it end with")

    @property
    def in_sentence(self) -> str:
        """What it is called within a sentence."""
        return self.short or self.title[0].lower() + self.title[1:]


class Check(FileModel):
    """What has to hold of a sample, or it is set aside. One of the bounds is given."""

    rule: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="what validity.csv calls it")
    value: Expression = Field(description="the number that is looked at")
    equals: float | str | None = Field(default=None, description="a number, or a limit's name")
    at_least: float | str | None = None
    at_most: float | str | None = None
    within: float | str | None = Field(default=None, description="largest size, whatever the sign")
    unless: Expression | None = Field(default=None, description="holds all the same where this is")
    detail: str = Field(
        min_length=1,
        description="what a breach means; {name} or {name:.0f} stands for a value of the sample",
    )

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = [name for name in self.bounds if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give one of equals, at_least, at_most and within")
        return self

    @property
    def bounds(self) -> tuple[str, ...]:
        """Keys that may give the bound."""
        return ("equals", "at_least", "at_most", "within")

    @functools.cached_property
    def bound(self) -> tuple[str, float | str]:
        """The key that gives the bound, and the number or the limit's name."""
        return next((k, v) for k in self.bounds if (v := getattr(self, k)) is not None)


class Limit(FileModel):
    """A bound of a check that an experiment may set."""

    default: float
    meaning: str = Field(min_length=1)


class Distribution(FileModel):
    """A histogram that the output holds: buckets [lower, upper, count]."""

    read: str
    title: str = Field(min_length=1, description="of what, for example write latency")
    unit: Literal["ns"] = "ns"


class Workload(FileModel):
    """One workload."""

    title: str = Field(min_length=1, max_length=120)
    summary: str = ""
    parameters: dict[Word, Parameter] = Field(default_factory=dict)
    program: Program
    command: tuple[str, ...] = Field(
        min_length=1,
        strict=False,
        description="the argument vector. {program} is the program's path, {parameters}, a word of "
        "its own, all that parameters add, defaults included; {NAME} one parameter's value; "
        "{seconds} (or {milliseconds}, or {whole_seconds}, rounded up), {warmup} and {timeout} are "
        "the protocol's. Without {seconds} it ends by itself. {disk} is the scratch disk's path",
    )
    self_check: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="a short run before anything is timed, likewise; it has to exit with 0",
    )
    output: Reader = "json"
    script: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9_]*\.py)?$",
        description="with output: script, a file in the folder whose `parse(text)` gives a mapping",
    )
    metrics: dict[Word, Metric] = Field(min_length=1)
    values: dict[Word, Value] = Field(
        default_factory=dict, description="what is recorded beside them, for checks and readers"
    )
    checks: tuple[Check, ...] = Field(default=(), strict=False)
    limits: dict[Word, Limit] = Field(default_factory=dict)
    distribution: Distribution | None = None
    operations: Word | None = Field(
        default=None, description="the value that counts what was done, for exports"
    )
    memory: Expression | None = Field(
        default=None, description="bytes that a cell needs at least, of its parameters"
    )
    disk: Expression | None = Field(
        default=None,
        description="bytes of a scratch disk that a cell needs, of its parameters; 0: none",
    )
    fragments: tuple[str, ...] = Field(
        default=(), strict=False, description="kernel options that it needs: files in the folder"
    )
    methods: dict[str, str] = Field(
        default_factory=dict, description="label and text of paragraphs for the report's methods"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        primaries = [name for name, metric in self.metrics.items() if metric.primary]
        if len(primaries) != 1 and len(self.metrics) > 1:
            raise ValueError(
                f"metrics: one of {', '.join(self.metrics)} has primary: true; "
                f"here {'none has' if not primaries else ' and '.join(primaries) + ' have'}"
            )
        shared = [name for name in self.values if name in self.metrics]
        if shared:
            raise ValueError(f"values.{shared[0]}: it is a metric already; call one otherwise")
        self._free_names()
        self._known_names()
        self._known_placeholders()
        if (self.output == "script") != bool(self.script):
            raise ValueError("output: script and the key script, its file, belong together")
        return self

    def _free_names(self) -> None:
        """What it declares becomes columns of the result tables, beside those of all runs."""
        parameters, taken = self.parameters.keys(), BY_PATH["samples.csv"].dtypes.keys()
        for key, names in (
            ("parameters", parameters & COLUMN_NAMES),
            ("metrics", self.metrics.keys() & (taken | parameters)),
            ("values", self.values.keys() & (taken | parameters)),
        ):
            if names:
                raise ValueError(
                    f"{key}.{min(names)}: a result table has a column of that name already; "
                    "call it otherwise"
                )

    def _known_names(self) -> None:
        """Expressions speak of what there is."""
        for name, value in self.recorded.items():
            if value.read is None and value.expression is None and name != ELAPSED:
                raise ValueError(f"{name}: give read, where the output has it, or expression")
        for name, parameter in self.parameters.items():
            if parameter.same_as is not None and parameter.same_as not in self.parameters:
                raise ValueError(
                    f"parameters.{name}.same_as: there is no parameter {parameter.same_as!r}"
                )
        known = {ELAPSED, *self.metrics, *self.values, *self.parameters}
        wanted = [
            (f"{kind}.{name}.expression", value.expression)
            for kind, group in (("metrics", self.metrics), ("values", self.values))
            for name, value in group.items()
        ]
        wanted += [(f"checks.{n}.value", check.value) for n, check in enumerate(self.checks)]
        limited = known | self.limits.keys()
        wanted += [(f"checks.{n}.unless", check.unless) for n, check in enumerate(self.checks)]
        for key, expression in wanted:
            names = limited if key.startswith("checks.") else known
            strange = sorted(expression.names - names) if expression else []
            if strange:
                raise ValueError(f"{key}: there is no value {strange[0]!r}")
        if self.operations is not None and self.operations not in self.recorded:
            raise ValueError(f"operations: there is no value {self.operations!r}")
        for key, needed in (("memory", self.memory), ("disk", self.disk)):
            if needed and (strange := sorted(needed.names - self.parameters.keys())):
                raise ValueError(f"{key}: there is no parameter {strange[0]!r}")
        for number, check in enumerate(self.checks):
            key, bound = check.bound
            if isinstance(bound, str) and bound not in self.limits:
                raise ValueError(f"checks.{number}.{key}: there is no limit {bound!r}")

    def _known_placeholders(self) -> None:
        if names := self.parameters.keys() & _PLACEHOLDERS:
            raise ValueError(
                f"parameters.{min(names)}: {{{min(names)}}} is something else in a command; call "
                "it otherwise"
            )
        known = {*_PLACEHOLDERS, *self.parameters}
        added = [
            (f"parameters.{name}.choices.{choice}", tuple(words))
            for name, parameter in self.parameters.items()
            for choice, words in parameter.added_by_choice.items()
        ]
        for key, words in (("command", self.command), ("self_check", self.self_check), *added):
            for word in words:
                for name in _placeholders(key, word):
                    if name == "disk" and self.disk is None:
                        raise ValueError(f"{key}: {{disk}}: say in the key disk how large it is")
                    if name not in known:
                        raise ValueError(
                            f"{key}: {{{name}}} stands for nothing; it may be "
                            f"{', '.join(sorted(known))}"
                        )
                    if name == "parameters" and word != "{parameters}":
                        raise ValueError(f"{key}: {word!r}: {{parameters}} is a word of its own")

    @property
    def primary(self) -> str:
        """The name of the metric that verdicts are about."""
        return next((n for n, m in self.metrics.items() if m.primary), next(iter(self.metrics)))

    @property
    def timed_by_protocol(self) -> bool:
        """Whether the protocol says how long it runs, or it ends by itself."""
        named = {name for word in self.command for name in _placeholders("command", word)}
        return not named.isdisjoint(_LENGTHS)

    @functools.cached_property
    def recorded(self) -> dict[str, Value]:
        """Metrics and values: what a sample has."""
        return {**self.values, **self.metrics}

    @functools.cached_property
    def types(self) -> dict[str, str]:
        """Their types."""
        return {name: value.type for name, value in self.recorded.items()}

    @functools.cached_property
    def places(self) -> dict[str, str]:
        """Where the output has those of them that are read from it."""
        return {n: value.read for n, value in self.recorded.items() if value.read is not None}

    @functools.cached_property
    def reported(self) -> dict[str, str]:
        """Where the output has the values of parameters that the program used."""
        return {n: p.reported for n, p in self.parameters.items() if p.reported is not None}

    @functools.cached_property
    def used(self) -> frozenset[str]:
        """Names in expressions of values and checks."""
        expressions = [value.expression for value in self.recorded.values() if value.expression]
        expressions += [check.value for check in self.checks]
        return frozenset().union(*(expression.names for expression in expressions))

    def required(self) -> list[str]:
        """Parameters that every cell has to give."""
        return [name for name, parameter in self.parameters.items() if parameter.required]

    def needed_memory(self, given: Mapping[str, Level]) -> float:
        """Bytes of memory that a cell of these parameters needs; 0 where that is not known.

        Args:
            given: parameters that are set, each with a value that it takes.
        """
        return self._needed(self.memory, given)

    def needed_disk(self, given: Mapping[str, Level]) -> float:
        """Bytes of scratch disk that it needs, likewise."""
        return self._needed(self.disk, given)

    def _needed(self, amount: Expression | None, given: Mapping[str, Level]) -> float:
        found = amount.value(self.meanings(given)) if amount else 0.0
        return 0.0 if math.isnan(found) else found

    def meanings(self, given: Mapping[str, Level]) -> dict[str, object]:
        """What every parameter comes to in a cell; None where the program decides.

        Args:
            given: parameters that are set.
        """
        # Every sample asks, and all of a cell's ask the same. True is not 1 here.
        key = tuple((name, type(level), level) for name, level in given.items())
        if key not in self._meanings:
            self._meanings[key] = self._meaning_of(given)
        return self._meanings[key]

    @functools.cached_property
    def _meanings(self) -> dict[tuple[object, ...], dict[str, object]]:
        return {}

    def _meaning_of(self, given: Mapping[str, Level]) -> dict[str, object]:
        found = {
            name: parameter.meaning(given.get(name, parameter.default))
            for name, parameter in self.parameters.items()
        }
        for name, parameter in self.parameters.items():
            if found[name] is None and parameter.same_as is not None:
                found[name] = found[parameter.same_as]
        return found

    def argv(
        self,
        words: tuple[str, ...],
        given: Mapping[str, Level],
        *,
        program: str,
        disk: str = "",
        seconds: float = 0.0,
        warmup: float = 0.0,
        timeout: float = 0.0,
    ) -> list[str]:
        """A command line.

        Args:
            words: `command` or `self_check`.
            given: parameters that are set.
            program: path of the program in the guest.
            disk: path of the scratch disk there.
            seconds: that it measures.
            warmup: seconds before.
            timeout: seconds that it may take beyond.
        """
        values = {
            **{
                name: parameter.text(value)
                for name, parameter in self.parameters.items()
                if (value := given.get(name, parameter.default)) is not None
            },
            "program": program,
            "disk": disk,
            "seconds": seconds,
            "whole_seconds": max(1, math.ceil(seconds)),
            "milliseconds": round(1e3 * seconds),
            "warmup": warmup,
            "timeout": timeout,
        }
        named = {name for word in words for name in _placeholders("command", word)}
        argv: list[str] = []
        for word in words:
            if word == "{parameters}":
                for name, parameter in self.parameters.items():
                    # What workload.yaml calls the default, even where the program has another.
                    value = given.get(name, parameter.default)
                    added = parameter.argv(name, value) if value is not None else []
                    # One that the words set themselves is set there.
                    if added and name not in named and added[0] not in words:
                        if parameter.added_by_choice:
                            added = [word.format_map(values) for word in added]
                        argv += added
            else:
                argv.append(word.format_map(values))
        return argv

    def check_parameter(self, key: str, name: str, value: object, workload: str) -> None:
        """Check a value that an experiment gives.

        Args:
            key: the place in the experiment file, for the message.
            name: of the parameter.
            value: as the file has it.
            workload: name of this workload.

        Raises:
            ValueError: no such parameter, or a value that it does not take.
        """
        if name not in self.parameters:
            raise ValueError(
                f"{key}: {name!r} is not a parameter of {workload}; parameters are "
                f"{', '.join(self.parameters) or '(none)'}"
            )
        if self.parameters[name].meaning(value) is None:
            raise ValueError(f"{key}: should be {self.parameters[name].takes}, found {value!r}")


def _placeholders(key: str, word: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
    except ValueError as error:
        raise ValueError(f"{key}: {word!r}: {error}; write {{{{ for a brace") from None
