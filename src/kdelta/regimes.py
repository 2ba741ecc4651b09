# SPDX-License-Identifier: GPL-2.0-only
"""Under which conditions is measured, and how much: regimes and protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from kdelta.names import Name
from kdelta.pressure_counters import PRESSURE_COUNTERS
from kdelta.units import (
    MIN_DURATION_S,
    Duration,
    Seconds,
    Share,
    Size,
    SysctlName,
)
from kdelta.yaml_file import FileModel


class Stressor(FileModel):
    """A program that runs beside the workload, started before each boot's sweep."""

    command: list[str] = Field(
        min_length=1, description="argument vector, run as root in the guest"
    )
    settled_by: Literal["memory", "reclaim", "time"] = Field(
        default="memory",
        description="memory: it has more than 16 MiB, which have stopped growing; reclaim: the "
        "kernel has gone into direct reclaim again and again, for two seconds; time: it has run "
        "for settle_s, for a stressor of CPUs, disks or the like",
    )
    settle_s: Seconds | None = Field(
        default=None, description="with settled_by: time, how long it runs before the sweep"
    )
    settle_timeout_s: Seconds = Field(default=60, description="how long settling may take")

    @model_validator(mode="after")
    def _seconds_with_time(self) -> Self:
        if (self.settled_by == "time") != (self.settle_s is not None):
            raise ValueError(
                "settled_by: time: give settle_s, the seconds that it runs before the sweep"
                if self.settle_s is None
                else f"settle_s: {self.settle_s:g} has no effect with settled_by: "
                f"{self.settled_by}; write settled_by: time, or leave it out"
            )
        return self


if TYPE_CHECKING:
    Counter = str
else:
    Counter = Literal[tuple(counter.name for counter in PRESSURE_COUNTERS)]


class Expectation(FileModel):
    """What a regime must do to the kernel, as a counter's growth over each sample shows it."""

    counter: Counter = Field(description="a counter column of samples.csv")
    at_least: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="smallest growth over a sample"
    )
    at_most: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="largest growth over a sample"
    )
    share: Share = Field(default=1.0, description="of each arm's samples in which it must hold")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.counter}: give one of at_least and at_most")
        return self


class Regime(FileModel):
    """A condition of the guest."""

    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    memcg: bool = Field(
        default=False,
        description="run the workload in a child memory cgroup; without it no memory cgroup "
        "but the root is ever created in the boot. The guest asserts either",
    )
    swap: Size | None = Field(
        default=None, description="size of a compressed swap device in memory (zram)"
    )
    sysctl: dict[SysctlName, int | str] = Field(
        default_factory=dict,
        description="kernel settings of the guest, set before the stressor starts, for example "
        "vm.swappiness: 100",
    )
    stressor: Stressor | None = None
    expects: tuple[Expectation, ...] = Field(
        default=(),
        strict=False,
        description="what the regime must do to the kernel; the report says whether it did",
    )


class Protocol(FileModel):
    """How much is measured. The number of blocks is fixed before the first boot."""

    arms: tuple[Name, ...] | None = Field(
        default=None,
        strict=False,
        description="arms that are measured beside the baseline; without it all of them. The "
        "control comes besides",
    )
    blocks: Annotated[int, Field(ge=1, le=200)]
    rounds: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="of a block: in each round every cell is run once by every arm, one arm right "
        "after the other; an effect is the mean over the rounds",
    )
    warmup_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=0.2, description="seconds that a cell runs unmeasured, in every round"
    )
    duration_s: dict[str, Duration] = Field(
        min_length=1,
        description="seconds per cell, over all rounds of a block, by the regime's name; the "
        "protocol runs these regimes",
    )
    mechanism: tuple[Name, ...] | None = Field(
        default=None,
        strict=False,
        description="regimes whose mechanism is traced, timed or not; without it those of "
        "mechanism.regimes that are timed",
    )

    def slice_s(self, regime: str) -> float:
        """Seconds that one arm runs one cell in one round."""
        return round(self.duration_s[regime] / self.rounds, 6)

    @model_validator(mode="after")
    def _slices_long_enough(self) -> Self:
        for regime, seconds in self.duration_s.items():
            if self.slice_s(regime) < MIN_DURATION_S:
                raise ValueError(
                    f"duration_s.{regime}: {seconds:g} s in {self.rounds} rounds are "
                    f"{self.slice_s(regime):g} s a time, and {MIN_DURATION_S:g} s is the least: "
                    "give more seconds or fewer rounds"
                )
        return self
