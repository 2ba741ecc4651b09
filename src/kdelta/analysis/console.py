# SPDX-License-Identifier: GPL-2.0-only
"""Finds kernel splats and kills for want of memory in a guest's console log.

Each pattern is a fixed phrase that the kernel prints when something went wrong
(kernel/panic.c, lib/bug.c, kernel/hung_task.c, kernel/watchdog.c,
kernel/rcu/tree_stall.h, mm/oom_kill.c, mm/page_alloc.c, mm/kasan, lib/ubsan.c).
The allow list holds lines that match and are harmless, each with its reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kdelta.plain import printable


@dataclass(frozen=True)
class Pattern:
    """A named regular expression, searched for in each line."""

    name: str
    regex: re.Pattern[str]


@dataclass(frozen=True)
class Allowed:
    """A line that a pattern may match without being a splat, and why."""

    regex: re.Pattern[str]
    reason: str


@dataclass(frozen=True)
class Splat:
    """One line of the console that a pattern matched."""

    line_number: int  # from 1
    pattern: str
    text: str  # the line without control characters, at most 200 characters


OOM_KILL = "oom kill"
"""Name of a line that says that a process was killed for want of memory; no splat."""

OOM_INVOKED = "oom killer invoked"
"""Name of the line that begins the kernel's report of such a kill; no splat."""

# First match names the splat, so the more telling patterns come first.
PATTERNS = tuple(
    Pattern(name, re.compile(regex))
    for name, regex in (
        ("kasan", r"\bKASAN: "),
        ("ubsan", r"\bUBSAN: "),
        ("soft lockup", r"\bsoft lockup\b"),
        ("hard lockup", r"\b[Hh]ard LOCKUP\b"),
        (
            "rcu stall",
            r"\brcu\w*[: ].*\b(self-detected stall|detected stalls?|detected expedited stalls?)\b",
        ),
        ("hung task", r"\bblocked (in I/O wait )?for more than \d+ seconds"),
        (
            OOM_KILL,
            r"\b[Oo]ut of memory( \([^)]*\))?: Killed process\b|\bMemory cgroup out of memory\b",
        ),
        (OOM_INVOKED, r"\binvoked oom-killer\b"),
        ("page allocation failure", r"\bpage allocation failure\b"),
        ("unable to handle", r"\b[Uu]nable to handle (kernel|page)\b"),
        ("general protection fault", r"\bgeneral protection fault\b"),
        ("panic", r"\bKernel panic\b"),
        ("oops", r"\bOops\b(?!=)"),
        ("bug", r"\bBUG: |\bkernel BUG at\b"),
        ("warning", r"\bWARNING: "),
        ("call trace", r"\bCall [Tt]race:"),
    )
)

# Almost no line is a sign of anything: one search tells, instead of one per pattern.
_ANY = re.compile("|".join(f"(?:{pattern.regex.pattern})" for pattern in PATTERNS))

ALLOWED = tuple(
    Allowed(re.compile(regex), reason)
    for regex, reason in (
        (
            r"\b(Kernel )?[Cc]ommand line: ",
            "the kernel repeats its own parameters, which may name panics and oopses",
        ),
        (
            r"\bUnknown kernel command line parameters\b",
            "the kernel repeats parameters that it hands to user space",
        ),
        (
            r"\b(Spectre V2|RETBleed|Speculative Return Stack Overflow|ITS|TSA) ?: WARNING: ",
            "a boot-time notice on the host CPU's mitigations; every arm gets the same",
        ),
        (
            r"\btraps: \S+\[\d+\] general protection fault ip:",
            "a program faulted in user space; its exit status tells, the kernel is well",
        ),
    )
)

# Within so many lines of its first one, a report of the OOM killer shows its own call trace.
_OOM_REPORT_LINES = 12


def scan(text: str) -> tuple[Splat, ...]:
    """Every line of a console log that is a sign of a kernel splat or an OOM kill, in order.

    The call trace within a report of the OOM killer belongs to that, and is left out.

    Args:
        text: the whole log; carriage returns and terminal escapes are ignored.
    """
    found: list[Splat] = []
    oom_report_until = 0
    for number, raw in enumerate(text.split("\n"), start=1):
        line = printable(raw).strip()
        if not _ANY.search(line) or any(allowed.regex.search(line) for allowed in ALLOWED):
            continue
        name = next(p.name for p in PATTERNS if p.regex.search(line))
        if name == OOM_INVOKED:
            oom_report_until = number + _OOM_REPORT_LINES
        elif name == "call trace" and number <= oom_report_until:
            oom_report_until = 0  # one report, one trace
            continue
        found.append(Splat(number, name, line[:200]))
    return tuple(found)
