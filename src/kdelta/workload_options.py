# SPDX-License-Identifier: GPL-2.0-only
"""The options of pipe_bench that an experiment may set, and the values that they take.

pipe_bench checks them too, but it does so in the guest, once kernels have been
built for minutes. Durations belong to the protocol, the output format to the driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kdelta.units import parse_size_bytes

MAX_WORKERS = 1000
MAX_TRANSFER_BYTES = 2**30
MAX_PIPE_BYTES = 2**30
PAGE_BYTES = 4096

_CPU_LIST = re.compile(r"none|auto|[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")


def _workers(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WORKERS:
        return None
    return f"should be a whole number from 1 to {MAX_WORKERS}"


def _size(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}[KM]?", str(value)):
        return 0
    return parse_size_bytes(str(value)) if str(value).strip("0KM") else 0


def _transfer(value: object) -> str | None:
    if 1 <= _size(value) <= MAX_TRANSFER_BYTES:
        return None
    return f"should be bytes from 1 to {MAX_TRANSFER_BYTES}, for example 65536, 64K or 1M"


def _pipe(value: object) -> str | None:
    size = _size(value)
    # The kernel rounds up to a power of two pages; pipe_bench refuses what it did not ask for.
    if PAGE_BYTES <= size <= MAX_PIPE_BYTES and size & (size - 1) == 0:
        return None
    return (
        f"should be a power of two of bytes from {PAGE_BYTES} to {MAX_PIPE_BYTES}, "
        "for example 65536 or 1M"
    )


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "should be true or false"


def _cpus(value: object) -> str | None:
    if not isinstance(value, bool) and _CPU_LIST.fullmatch(str(value)):
        return None
    return "should be none, auto or a list of CPUs such as 0-3,8"


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "writers": _workers,
    "readers": _workers,
    "write_size": _transfer,
    "read_size": _transfer,
    "pipe_size": _pipe,
    "processes": _flag,
    "nonblock": _flag,
    "pin": _cpus,
}

WORKLOAD_OPTIONS = tuple(_CHECKS)


def check_option(key: str, name: str, value: object) -> None:
    """Check one option.

    Args:
        key: the place in the experiment file, for the message.
        name: the option, underscores for dashes.
        value: as the file has it.

    Raises:
        ValueError: no such option, or a value that it does not take.
    """
    if name not in _CHECKS:
        raise ValueError(
            f"{key}: {name!r} is not an option of pipe_bench; "
            f"options are {', '.join(WORKLOAD_OPTIONS)}"
        )
    problem = _CHECKS[name](value)
    if problem is not None:
        raise ValueError(f"{key}: {problem}, found {value!r}")
