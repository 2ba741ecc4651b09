# SPDX-License-Identifier: GPL-2.0-only
"""The options of pipe_bench that an experiment may set, and the values that they take.

pipe_bench checks them too, but it does so in the guest, once kernels have been
built for minutes. Durations belong to the protocol, the output format to the driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kdelta.units import parse_size_bytes

MAX_WORKERS = 1000
MAX_TRANSFER_BYTES = 2**30
# The kernel holds 40 bytes for each page of a pipe in one piece of at most 4 MiB.
MAX_PIPE_BYTES = 2**28
PAGE_BYTES = 4096
MAX_CPU = 1023

# Of --duration and --timeout. pipe_bench takes shorter timeouts, but starting and ending a
# cell's processes can take that long by itself.
MIN_DURATION_S = 0.001
MIN_TIMEOUT_S = 1
MAX_SECONDS = 86400

# Without them pipe_bench sweeps numbers of its own choice, and a cell is no cell any more.
REQUIRED_OPTIONS = ("writers", "readers")

# What pipe_bench takes where nothing is said.
_WRITE_BYTES, _PIPE_BYTES = 65536, 2**20

_CPU_LIST = re.compile(r"none|auto|[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")


@dataclass(frozen=True)
class _Option:
    """One option: what it takes, in words, and what a value means; None where it is not taken."""

    takes: str
    meaning: Callable[[object], object]


def _workers(value: object) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WORKERS
    return value if good and isinstance(value, int) else None


def _size(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}[KM]?", str(value)):
        return 0
    return parse_size_bytes(str(value)) if str(value).strip("0KM") else 0


def _transfer(value: object) -> int | None:
    size = _size(value)
    return size if 1 <= size <= MAX_TRANSFER_BYTES else None


def _pipe(value: object) -> int | None:
    size = _size(value)
    # The kernel rounds up to a power of two pages; pipe_bench refuses what it did not ask for.
    return size if PAGE_BYTES <= size <= MAX_PIPE_BYTES and size & (size - 1) == 0 else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


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
    # In the order in which workers take them; pipe_bench holds as many as there can be CPUs.
    return tuple(cpus) if len(cpus) <= MAX_CPU + 1 else None


_OPTIONS: dict[str, _Option] = {
    "writers": _Option(f"a whole number from 1 to {MAX_WORKERS}", _workers),
    "readers": _Option(f"a whole number from 1 to {MAX_WORKERS}", _workers),
    "write_size": _Option(
        f"bytes from 1 to {MAX_TRANSFER_BYTES}, for example 65536, 64K or 1M", _transfer
    ),
    "read_size": _Option(
        f"bytes from 1 to {MAX_TRANSFER_BYTES}, for example 65536, 64K or 1M", _transfer
    ),
    "pipe_size": _Option(
        f"a power of two of bytes from {PAGE_BYTES} to {MAX_PIPE_BYTES}, for example 65536 or 1M",
        _pipe,
    ),
    "processes": _Option("true or false", _flag),
    "nonblock": _Option("true or false", _flag),
    "pin": _Option(f"none, auto or a list of CPUs such as 0-3,8, none above {MAX_CPU}", _cpus),
}

WORKLOAD_OPTIONS = tuple(_OPTIONS)


def check_option(key: str, name: str, value: object) -> None:
    """Check one option.

    Args:
        key: the place in the experiment file, for the message.
        name: the option, underscores for dashes.
        value: as the file has it.

    Raises:
        ValueError: no such option, or a value that it does not take.
    """
    if name not in _OPTIONS:
        raise ValueError(
            f"{key}: {name!r} is not an option of pipe_bench; "
            f"options are {', '.join(WORKLOAD_OPTIONS)}"
        )
    if option_meaning(name, value) is None:
        raise ValueError(f"{key}: should be {_OPTIONS[name].takes}, found {value!r}")


def option_meaning(name: str, value: object) -> object:
    """What a value comes to, to be compared with ==: `64K` and 65536 are the same size.

    Whole numbers, bytes, truth, or CPUs in their order; None where the option does not take it.
    """
    return _OPTIONS[name].meaning(value)


def highest_cpu(value: object) -> int | None:
    """The highest CPU that a value of `pin` names; None where it names none."""
    meaning = _cpus(value)
    return max(meaning) if isinstance(meaning, tuple) else None


def memory_bytes(options: Mapping[str, object]) -> int:
    """What one cell holds in memory at least: a buffer for each worker, and the full pipe.

    Args:
        options: the cell's options, all of them checked, those that are `REQUIRED_OPTIONS` given.
    """
    write = _transfer(options.get("write_size", _WRITE_BYTES)) or 0
    read = _transfer(options.get("read_size", write)) or 0
    pipe = _pipe(options.get("pipe_size", _PIPE_BYTES)) or 0
    writers, readers = (_workers(options[name]) or 0 for name in REQUIRED_OPTIONS)
    return writers * write + readers * read + pipe
