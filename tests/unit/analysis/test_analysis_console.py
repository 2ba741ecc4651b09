# SPDX-License-Identifier: GPL-2.0-only
"""The console scanner, on excerpts in the form that kernels print."""

import pytest
from synthetic import QUIET_CONSOLE

from kdelta.analysis.console import ALLOWED, OOM_INVOKED, OOM_KILL, PATTERNS, scan

SPLATS = {
    "kasan": "[   12.345678] BUG: KASAN: slab-use-after-free in anon_pipe_write+0x1a2/0x9c0",
    "ubsan": "UBSAN: array-index-out-of-bounds in fs/pipe.c:512:20",
    "soft lockup": "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [pipe_bench:312]",
    "hard lockup": "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1",
    "rcu stall": "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "hung task": "INFO: task pipe_bench:312 blocked for more than 120 seconds.",
    "oom killer invoked": "stress-ng-vm invoked oom-killer: gfp_mask=0x140dca, order=0",
    "oom kill": "Out of memory: Killed process 298 (stress-ng-vm) total-vm:1062564kB",
    "page allocation failure": "pipe_bench: page allocation failure: order:0, mode:0x400cc0",
    "unable to handle": "Unable to handle kernel NULL pointer dereference at virtual address 0010",
    "general protection fault": "general protection fault, probably for non-canonical address "
    "0xdead000000000100: 0000 [#1] SMP PTI",
    "panic": "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
    "oops": "Oops: Oops: 0000 [#1] SMP NOPTI",
    "bug": "kernel BUG at fs/pipe.c:455!",
    "warning": "WARNING: CPU: 1 PID: 312 at fs/pipe.c:512 anon_pipe_write+0x7f1/0x9c0",
    "call trace": "Call Trace:",
}


@pytest.mark.parametrize(("name", "line"), SPLATS.items())
def test_each_pattern_finds_its_splat(name: str, line: str) -> None:
    (splat,) = scan(QUIET_CONSOLE + line + "\n")
    assert splat.pattern == name
    assert splat.text == line
    assert splat.line_number == len(QUIET_CONSOLE.splitlines()) + 1


def test_every_pattern_has_an_excerpt() -> None:
    assert set(SPLATS) == {pattern.name for pattern in PATTERNS}


@pytest.mark.parametrize(
    "line",
    [
        "rcu: \trcu_sched self-detected stall on CPU",
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... }",
        "BUG: unable to handle page fault for address: ffffc90000000ff8",
        "BUG: Bad page state in process pipe_bench  pfn:1f2c3",
        "WARNING: possible circular locking dependency detected",
        "Memory cgroup out of memory: Killed process 298 (pipe_bench) total-vm:1kB",
        "Out of memory (oom_kill_allocating_task): Killed process 298 (pipe_bench)",
        "Internal error: Oops: 0000000096000004 [#1] SMP",
        "\x1b[31m[    3.1] WARNING: fs/pipe.c:9 at pipe_write+0x1/0x2, CPU#0: init/1\x1b[0m\r",
    ],
)
def test_other_forms_are_found(line: str) -> None:
    assert len(scan(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "Kernel command line: console=ttyS0 panic=-1 note=BUG: WARNING: Oops",
        'Unknown kernel command line parameters "note=WARNING: x", will be passed to user space.',
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible",
        "Speculative Return Stack Overflow: WARNING: See https://kernel.org/doc/ for options.",
        "traps: a.out[77] general protection fault ip:401136 sp:7ffc error:0 in a.out[401000+1000]",
    ],
)
def test_allowed_lines_are_no_splats(line: str) -> None:
    assert any(pattern.regex.search(line) for pattern in PATTERNS), "needs no entry"
    assert scan(line) == ()


@pytest.mark.parametrize(
    "line",
    [
        "kasan: KernelAddressSanitizer initialized",
        "rcu: RCU CPU stall warnings enabled, timeout 21 s",
        "qemu-system-x86_64: warning: TCG doesn't support requested feature",
        "Warning: unable to open an initial console.",
        "oops=panic",
        "MDS CPU bug present and SMT on, data leak possible.",
        "debug: all fine",
    ],
)
def test_harmless_lines_match_nothing(line: str) -> None:
    assert scan(line) == ()


def test_quiet_console_is_quiet() -> None:
    assert scan(QUIET_CONSOLE) == ()
    assert scan("") == ()


def test_a_whole_warning_counts_every_line_that_says_so() -> None:
    text = (
        "------------[ cut here ]------------\n"
        "WARNING: CPU: 0 PID: 99 at fs/pipe.c:444 pipe_write+0x10/0x20\n"
        "Modules linked in:\n"
        "Call Trace:\n"
        " <TASK>\n"
        "---[ end trace 0000000000000000 ]---\n"
    )
    assert [(s.line_number, s.pattern) for s in scan(text)] == [(2, "warning"), (4, "call trace")]


OOM_REPORT = (
    "stress-ng-vm invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE), order=0\n"
    "CPU: 1 UID: 0 PID: 298 Comm: stress-ng-vm Not tainted 6.12.117 #1\n"
    "Call Trace:\n <TASK>\n dump_stack_lvl+0x47/0x70\n"
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,task=stress-ng-vm,pid=298\n"
    "Out of memory: Killed process 298 (stress-ng-vm) total-vm:1062564kB\n"
    "oom_reaper: reaped process 298 (stress-ng-vm), now anon-rss:0kB\n"
)


def test_the_call_trace_of_an_oom_report_is_no_splat_of_its_own() -> None:
    assert [s.pattern for s in scan(OOM_REPORT * 2)] == [OOM_INVOKED, OOM_KILL] * 2


def test_a_splat_after_an_oom_report_is_one() -> None:
    splats = scan(OOM_REPORT + "WARNING: CPU: 0 PID: 9 at fs/pipe.c:1 f+0x1/0x2\nCall Trace:\n")
    assert [s.pattern for s in splats] == [OOM_INVOKED, OOM_KILL, "warning", "call trace"]
    far = scan("a invoked oom-killer: x\n" + "quiet\n" * 20 + "Call Trace:\n")
    assert [s.pattern for s in far] == [OOM_INVOKED, "call trace"]


def test_texts_are_short_and_every_exception_has_a_reason() -> None:
    (splat,) = scan("BUG: \x00" + "x" * 1000)
    assert len(splat.text) == 200
    assert "\x00" not in splat.text
    assert all(len(allowed.reason) > 20 for allowed in ALLOWED)
