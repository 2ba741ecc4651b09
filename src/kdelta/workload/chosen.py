# SPDX-License-Identifier: GPL-2.0-only
"""A workload as an experiment chooses it: a folder of workloads/, and its matrix."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, model_validator
from pydantic.json_schema import SkipJsonSchema

from kdelta.names import Name
from kdelta.units import Timeout
from kdelta.workload.declaration import Workload
from kdelta.workload.folder import FOLDER, load_workload
from kdelta.workload.parameters import Level, highest_cpu
from kdelta.yaml_file import FileModel

Factor = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
Matrix = dict[Factor, Annotated[list[Level], Field(min_length=1)]]
Cell = dict[str, Level]


class Chosen(FileModel):
    """A workload with its matrix, and the arguments that are the same in every cell."""

    program: Name = Field(
        default="", description="a folder of workloads/; without it the workload's name"
    )
    matrix: Matrix = Field(
        min_length=1, description="levels by parameter; every combination is a cell"
    )
    arguments: dict[Factor, Level] = Field(
        default_factory=dict,
        description="parameters of the workload that are the same in every cell, by name",
    )
    limits: dict[Factor, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description="bounds of the workload's checks other than its own, by name",
    )
    timeout_s: Timeout = Field(
        default=60,
        description="a cell that is not done so long after its own duration is killed, and failed",
    )
    # What workload.yaml says, read with the experiment. In the manifest it stands by itself.
    declaration: SkipJsonSchema[Workload] = Field(exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _declared(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or "declaration" in data:
            return data
        name = data.get("program")
        if not isinstance(name, str):
            return {**data, "declaration": load_workload("pipe_bench")}  # the name is at fault
        context = info.context or {}
        known = context.get("workloads", {}).get(name)
        try:
            return {**data, "declaration": known or load_workload(name, context.get("root"))}
        except ValueError as error:
            raise ValueError(f"program: {error}") from None

    def folder(self, root: Path) -> Path:
        """Where its declaration, source and script lie."""
        return root / FOLDER / self.program

    def script(self, root: Path) -> Path | None:
        """What reads its output, if that is a script of its own."""
        name = self.declaration.script
        return self.folder(root) / name if name else None

    def cells(self, levels: Mapping[str, Sequence[Level]] | None = None) -> list[Cell]:
        """All cells of the matrix, the last factor varying fastest.

        Args:
            levels: of some factors, those that count; None: all.
        """
        matrix = {**self.matrix, **(levels or {})}
        combinations = itertools.product(*matrix.values())
        return [dict(zip(matrix, combination, strict=True)) for combination in combinations]

    @property
    def given(self) -> dict[str, list[Level]]:
        """Every value that its parameters take in some cell."""
        return {**{name: [value] for name, value in self.arguments.items()}, **self.matrix}

    @property
    def named_cpus(self) -> dict[str, int]:
        """The highest CPU of the guest that each parameter names, of those that name one."""
        found: dict[str, int] = {}
        for name, values in self.given.items():
            if self.declaration.parameters[name].type == "cpus":
                cpus = [cpu for value in values if (cpu := highest_cpu(value)) is not None]
                found |= {name: max(cpus)} if cpus else {}
        return found

    @property
    def memory_bytes(self) -> float:
        """Memory that its largest cell needs at least; 0 where that is not known."""
        return max(self.declaration.needed_memory({**self.arguments, **c}) for c in self.cells())

    @property
    def disk_bytes(self) -> float:
        """Scratch disk that its largest cell needs; 0: none."""
        return max(self.declaration.needed_disk({**self.arguments, **c}) for c in self.cells())

    def key_of(self, parameter: str) -> str:
        """Where the experiment file gives a parameter, below the workload's name."""
        return f"{'matrix' if parameter in self.matrix else 'arguments'}.{parameter}"
