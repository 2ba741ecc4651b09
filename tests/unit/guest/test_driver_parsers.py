# SPDX-License-Identifier: GPL-2.0-only
"""The driver reads the kernel's counters: texts as Linux 6.12 prints them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kdelta.guest import counters, stressor, supervise
from kdelta.guest.boot import GUEST_MODULES, PACKAGE

VMSTAT = """nr_free_pages 201563
nr_zone_inactive_anon 0
workingset_refault_anon 12
workingset_refault_file 345
pgpgin 5600
pswpin 3
pswpout 17
pgalloc_dma 0
pgalloc_dma32 4511
pgalloc_normal 98231
allocstall_dma 0
allocstall_dma32 0
allocstall_normal 150
allocstall_movable 770
pgfree 120011
pgfault 70233
pgmajfault 12
pgreuse 811
pgsteal_kswapd 2200
pgsteal_direct 339000
pgscan_kswapd 5100
pgscan_direct 340012
pgscan_direct_throttle 0
oom_kill 1
unevictable_pgs_scanned 0
"""

PSI = """some avg10=1.21 avg60=0.30 avg300=0.07 total=1234567
full avg10=0.00 avg60=0.00 avg300=0.00 total=89
"""

STAT = """cpu  4705 356 584 3699176 23060 7 26 91 0 0
cpu0 1393280 32966 572056 13343292 6130 0 17875 0 23933 0
intr 114930548 113199788
ctxt 1990473
"""

MEMINFO = """MemTotal:        1003912 kB
MemFree:          806252 kB
MemAvailable:     842716 kB
Buffers:               0 kB
SwapCached:            0 kB
AnonPages:         20480 kB
SwapTotal:             0 kB
SwapFree:              0 kB
HugePages_Total:       0
"""


SOFTIRQS = """                    CPU0       CPU1
          HI:          1          2
       TIMER:     100000     200000
"""

SCHEDSTAT = """version 15
timestamp 4295000000
cpu0 0 0 0 0 0 0 100 10 5
domain0 3 1 2 3
cpu1 0 0 0 0 0 0 300 30 7
"""


def proc(folder: Path, **more: str) -> Path:
    """A /proc with these counters, and others in place of some."""
    files = {
        "vmstat": VMSTAT,
        "stat": STAT,
        "softirqs": SOFTIRQS,
        "schedstat": SCHEDSTAT,
        "pressure/memory": PSI,
        # before 5.13, and in the root: cpu pressure has no "full" line
        "pressure/cpu": PSI.splitlines()[0],
    }
    (folder / "pressure").mkdir(parents=True)
    for name, text in (files | more).items():
        (folder / name).write_text(text)
    return folder


def test_what_every_counter_grew_by(tmp_path: Path) -> None:
    later = {
        "vmstat": VMSTAT.replace("allocstall_movable 770", "allocstall_movable 777")
        + "new_counter 3\n",
        "stat": STAT.replace("cpu  4705 356", "cpu  4707 355").replace("1990473", "1990500"),
        "softirqs": SOFTIRQS.replace("200000", "200050"),
        "schedstat": SCHEDSTAT.replace("300 30 7", "350 31 7"),
        "pressure/memory": PSI.replace("1234567", "1234667"),
    }
    before = counters.moment(proc(tmp_path / "before"))
    found = counters.grown(before, counters.moment(proc(tmp_path / "after", **later)))
    moved = {name: by for name, by in found.items() if by}
    assert moved == {
        "vmstat.allocstall_movable": 7,
        "stat.user": 2,
        "stat.nice": -1,
        "stat.ctxt": 27,
        "softirqs.TIMER": 50,
        "sched.run_ns": 50,
        "sched.wait_ns": 1,
        "psi.memory.some": 100,
    }
    # What does not move is 0; what there was only afterwards is not known.
    assert found["vmstat.oom_kill"] == found["psi.cpu.some"] == found["sched.timeslices"] == 0
    assert "vmstat.new_counter" not in found


def test_a_kernel_without_some_of_them(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text(VMSTAT)
    found = counters.moment(tmp_path)
    assert set(counters.grown(found, found)) == {
        f"vmstat.{line.split()[0]}" for line in VMSTAT.splitlines()
    }


def test_counters_of_this_very_machine() -> None:
    before = counters.moment()
    subprocess.run(["true"], check=True)
    found = counters.grown(before, counters.moment())
    assert found["vmstat.pgfault"] > 0
    assert found["stat.processes"] > 0
    assert found["softirqs.TIMER"] >= 0


def test_meminfo_is_kib() -> None:
    found = counters.parse_meminfo(MEMINFO)
    assert found == {"MemTotal": 1003912, "MemAvailable": 842716, "SwapTotal": 0}


def stat_line(pid: int, name: str, pgrp: int, pages: int, state: str = "S") -> str:
    fields = [
        f"{pid} ({name}) {state} 1 {pgrp} {pgrp} 0 -1 4194560",
        *("0" for _ in range(13)),
        f"1000000 {pages}",
        *("0" for _ in range(28)),
    ]
    return " ".join(fields) + "\n"


def test_resident_memory_of_a_group(tmp_path: Path) -> None:
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    lines = {
        10: stat_line(10, "stress-ng", 10, 100),
        # a name with everything that trips parsers
        11: stat_line(11, "stress) S 1 99 (ng", 10, 2000),
        12: stat_line(12, "other", 12, 50000),
    }
    for pid, line in lines.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(line)
    (tmp_path / "self").mkdir()
    assert stressor.observe_group(10, tmp_path) == (2100 * page_kib, {})
    assert stressor.observe_group(99, tmp_path) == (0, {})


def test_a_process_that_waits_for_a_cpu(tmp_path: Path) -> None:
    """It is runnable and has run no longer than before; without schedstat nobody can tell."""

    def observe(**ran: str | None) -> stressor.Group:
        for pid, time_ns in ran.items():
            folder = tmp_path / pid.removeprefix("p")
            folder.mkdir(exist_ok=True)
            (folder / "stat").write_text(stat_line(int(folder.name), "x", 10, 1, "R"))
            if time_ns is not None:
                (folder / "schedstat").write_text(f"{time_ns} 5 7\n")
        return stressor.observe_group(10, tmp_path)

    first = observe(p10="100", p11="200", p12=None)
    assert first.runnable == {"10": "100", "11": "200"}
    assert not observe(p10="101", p11="201").starved_since(first)
    assert observe(p10="102", p11="200").starved_since(first)
    assert not observe(p10="102", p11="203", p13="0").starved_since(first)


def test_resident_memory_of_this_process() -> None:
    assert stressor.observe_group(os.getpgid(0)).resident_kib > 1000


def test_what_is_copied_into_the_guest_is_complete_and_needs_the_standard_library_alone(
    tmp_path: Path,
) -> None:
    """It is run there by whatever Python the host has, without the project's packages."""
    for module in GUEST_MODULES:
        target = tmp_path / "kdelta" / module
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PACKAGE / module).read_bytes())
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import kdelta.guest.driver as d; "
    script += "print(d.__file__); print(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    origin, loaded = done.stdout.splitlines()
    assert origin.startswith(str(tmp_path))
    assert set(loaded.split()) <= sys.stdlib_module_names | {"kdelta", "__main__"}


def test_the_supervisor_needs_the_standard_library_alone() -> None:
    argv = [sys.executable, "-I", "-S", supervise.__file__, "60", "sh", "-c", "exit 3"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:  # it ends with its parent's pipe
        assert process.wait(timeout=60) == 3
