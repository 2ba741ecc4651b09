# SPDX-License-Identifier: GPL-2.0-only
"""The program that runs inside the guest: gate, self-check, slices on demand, raw records.

Standard library only: this and the other modules of `GUEST_MODULES` are copied into
the folder shared with the guest and run there by the host's own Python (the guest's
root is the host's, read-only), so they may import each other and nothing else of the
package. The folder, SHARE, holds ``plan.json`` and the workload, and receives
``records.jsonl``.

The guests of a block live at the same time and run in turns: once a guest is ready it says so
on a virtio port, and then runs what the host asks for there, one cell at a time (`serve`).

Python starts slowly on an emulated CPU, and every module that is imported adds to each boot: what
only some boots need is imported there.

Every record is one JSON line, flushed and synced before the next step, so that
a guest that dies leaves everything it had measured. Formats: docs/contracts.md.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kdelta.guest import conditions
from kdelta.guest.counters import grown, moment
from kdelta.guest.gate import (
    cgroup_failures,
    gate_failures,
    observe_cgroups,
    observe_guest,
    unknown_parameters,
    whole_text,
    workload_cgroup,
)
from kdelta.guest.speed import DEADLINE_S, PROGRAM, check_speed, speed_record
from kdelta.guest.stressor import Stressor

Json = dict[str, Any]

# The driver is the last process the OOM killer may take: it has to tell the tale.
NEVER_KILL = "-1000"

CLOCK_TRIES = 20
CLOCKS_CLOSE_NS = 1_000_000

PROGRAMS = Path("/run")
"""Where programs that were built for the guest are run from."""

OUTPUT_LIMIT = 65536
"""Characters of an output that a record holds, the last ones."""

PORT = "kdelta"
"""Name of the virtio port through which the host asks for slices."""


class Records:
    """Append-only JSON lines that survive the guest's death."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Json) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


class Port:
    """The virtio port to the host: lines of JSON from there, words of one line back."""

    def __init__(self, classes: Path = Path("/sys/class/virtio-ports")) -> None:
        """Open it; without udev, devices have the kernel's names only.

        Raises:
            RuntimeError: the guest has no such port.
        """
        for folder in classes.glob("*"):
            if (folder / "name").read_text().strip() == PORT:
                self._file = Path("/dev", folder.name).open("r+b", buffering=0)  # noqa: SIM115
                return
        raise RuntimeError(f"no virtio port {PORT!r} in {classes} (CONFIG_VIRTIO_CONSOLE)")

    def say(self, word: str) -> None:
        self._file.write(word.encode() + b"\n")

    def orders(self) -> Iterator[Json]:
        """What the host asks for, one after the other; ends when the host is gone."""
        for line in self._file:
            yield json.loads(line)


def as_workload(memcg: bool) -> Callable[[], None]:
    """What the workload's process does before it becomes the workload."""

    def start() -> None:
        conditions.as_ordinary_process()
        if memcg:
            conditions.enter_child()

    return start


def run_bench(
    argv: list[str], timeout_s: float, start: Callable[[], None] = conditions.as_ordinary_process
) -> tuple[int | None, str, str]:
    """Run the workload; returns exit status (None: killed at the deadline), stdout, stderr."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # the kernel under test may garble what goes through a pipe
        start_new_session=True,
        preexec_fn=start,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return None, out, err
        return process.returncode, out, err


def complaint(status: int | None, err: str) -> str | None:
    """What a program that did not end well said of it; None: it did."""
    words = " ".join(err.split())[-500:]
    if status is None:
        return f"killed at its deadline; {words}"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; {words}"
    if status > 0:
        return words or f"exit status {status}"
    return None


def judge_json(status: int | None, out: str, err: str) -> tuple[Json | None, str | None]:
    """The result of a program that prints one line of JSON, and what is wrong with it."""
    if wrong := complaint(status, err):
        return None, wrong
    lines = out.strip().splitlines()
    if len(lines) != 1:
        return None, f"expected one line of JSON, got {len(lines)}"
    try:
        bench = json.loads(lines[0])
    except ValueError as error:
        return None, f"not JSON: {error}"
    return (bench, None) if isinstance(bench, dict) else (None, "not a JSON object")


def read_clocks() -> tuple[int, int]:
    """Real and monotonic time of one moment, in nanoseconds.

    A process that loses its CPU between the two readings, as happens under pressure, would
    look like a clock that jumped: real time is read between two readings of the other clock,
    again until these are close together.
    """
    best = (0, 0, math.inf)
    for _ in range(CLOCK_TRIES):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best[2]:
            best = (realtime, (before + after) // 2, after - before)
        if best[2] <= CLOCKS_CLOSE_NS:
            break
    return best[0], best[1]


def speed(plan: Json) -> tuple[Json | None, str | None]:
    """One speed check in the root cgroup, which no other process holds up; see `check_speed`."""

    def start() -> None:
        conditions.as_ordinary_process()
        conditions.before_all_others(inherited=True)

    def run(argv: list[str]) -> tuple[Json | None, str | None]:
        return judge_json(*run_bench(argv, DEADLINE_S, start))

    return check_speed(PROGRAMS / PROGRAM, plan["speed_work"], run)


def measure_cell(plan: Json, cell: Json, stressor: Stressor | None) -> Json:
    """Run one cell and return its record (without identity and place in the block).

    The speed checks lie outside of the slice's clocks and counters, which are the workload's.
    """
    start = as_workload(plan["conditions"]["memcg"])
    speed_before = speed(plan)
    before = moment()
    realtime_ns, monotonic_ns = read_clocks()
    started = {"realtime_start_ns": realtime_ns, "monotonic_start_ns": monotonic_ns}
    status, out, err = run_bench(cell["argv"], cell["deadline_s"], start)
    realtime_ns, monotonic_ns = read_clocks()
    ended = {"monotonic_end_ns": monotonic_ns, "realtime_end_ns": realtime_ns}
    after = moment()
    alive = stressor.alive() if stressor else None
    speed_after = speed(plan)
    if cell["json"]:
        result, error = judge_json(status, out, err)
        said: Json = {"bench": result}
    else:
        # Understood on the host, where a mistake in that can be mended without measuring again.
        error = complaint(status, err)
        said = {"output": out[-OUTPUT_LIMIT:]}
    return {
        "workload": cell["workload"],
        "cell": cell["levels"],
        "status": "failed" if error else "ok",
        "error": error,
        "exit_status": status,
        **started,
        **ended,
        **said,
        "grown": grown(before, after),
        "stressor_alive": alive,
        "speed": speed_record(plan["speed_work"], speed_before, speed_after),
    }


def trace_cell(plan: Json, cell: Json, stressor: Stressor | None) -> Json:
    """Run one cell under tracing and return its record (without identity and place)."""
    from kdelta.probes import inside

    start = as_workload(plan["conditions"]["memcg"])

    def run(argv: list[str]) -> tuple[Json | None, str | None]:
        status, out, err = run_bench(argv, cell["deadline_s"], start)
        if cell["json"]:
            return judge_json(status, out, err)
        error = complaint(status, err)
        return ({"output": out[-OUTPUT_LIMIT:]}, None) if error is None else (None, error)

    found = inside.measure(plan["probes"], plan["refused"], cell["argv"], run)
    return {"workload": cell["workload"], "cell": cell["levels"], **found}


def self_check(
    argv: list[str], timeout_s: float, start: Callable[[], None] = conditions.as_ordinary_process
) -> Json:
    """A short run of the workload that has to end well before anything is timed."""
    status, _, err = run_bench(argv, timeout_s, start)
    error = complaint(status, err)
    return {"ok": error is None, "error": error}


def enter(plan: Json) -> Json:
    """Bring the regime's conditions about and compare the guest with the plan: the gate."""
    memcg = plan["conditions"]["memcg"]
    failures = conditions.apply(plan["conditions"])
    observed = {**observe_guest(plan["evidence"]), "memcg": memcg}
    asked = plan["expected"]["boot_parameters"]  # each boot would read the kernel's log for nothing
    log = whole_text(Path("/dev/kmsg")) if asked else ""
    observed["unknown_parameters"] = unknown_parameters(log)
    observed["settings"] = conditions.read_back(plan["conditions"])
    # Where the conditions were not brought about, it is no news that this one was not.
    observed["workload_cgroup"] = workload_cgroup(as_workload(memcg)) if not failures else None
    failures += gate_failures(observed, plan["expected"])
    return {**observed, "ok": not failures, "failures": failures}


def drive(share: Path) -> bool:
    """Get ready, run what the host asks for; True if all is as asked for to the end."""
    plan: Json = json.loads((share / "plan.json").read_text())
    records = Records(share / "records.jsonl")
    identity = plan["identity"]
    gate = enter(plan)
    boot = {"record": "boot", "schema": 1, **identity, "mechanism": plan["mechanism"]}
    boot["gate"] = gate
    if not gate["ok"]:
        records.write(boot)
        records.write({"record": "end", "samples": 0, "ok": False, "error": "gate"})
        return False

    # A copy in guest memory: the workload must not read the host's disk.
    for program in plan["programs"]:
        (PROGRAMS / program).write_bytes((share / program).read_bytes())
        (PROGRAMS / program).chmod(0o755)
    start = as_workload(plan["conditions"]["memcg"])
    boot["self_checks"] = {
        check["workload"]: self_check(check["argv"], check["deadline_s"], start)
        for check in plan["self_checks"]
    }
    if plan["mechanism"]:
        from kdelta.probes import inside

        plan["refused"] = inside.prepare(plan["probes"])  # while there is memory for its buffers

    # Before the stressor settles, which may take minutes: the guest has booted.
    records.write(boot)
    port = Port()

    stressor = None
    if plan["stressor"]:
        wanted = plan["stressor"]
        log = share / "stressor.log"
        stressor = Stressor(wanted["command"], log, wanted["settled_by"], wanted["settle_s"])
        settled = stressor.start(wanted["settle_timeout_s"])
        records.write({"record": "stressor", **identity, **settled})
    if not plan["mechanism"]:
        speed(plan)  # the first run of a program is slower than all later ones

    done = serve(plan, records, port, stressor)

    alive = stressor.alive() if stressor else None
    if stressor:
        stressor.stop()
    late = cgroup_failures(observe_cgroups(), plan["expected"])
    records.write(
        {
            "record": "end",
            "samples": done,
            "ok": not late,
            "error": "; ".join(late) or None,
            "stressor_alive": alive,
            "uptime_s": float(Path("/proc/uptime").read_text().split()[0]),
        }
    )
    return not late


def serve(plan: Json, records: Records, port: Port, stressor: Stressor | None) -> int:
    """Say that the guest is ready, and run the cells that the host asks for until it says `end`.

    An order names the cell by its number in the plan, and the place that the record is to have
    in the block: {"cell": 3, "place": {"round": 1, "slot": 2}}. Each is answered by `done` once
    its record is written.

    Returns:
        How many were run.
    """
    measure, kind = (trace_cell, "mechanism") if plan["mechanism"] else (measure_cell, "sample")
    done = 0
    port.say("ready")
    for order in port.orders():
        if "cell" not in order:
            break
        done += 1
        place = {**order["place"], "cell_order": done}
        measured = measure(plan, plan["cells"][order["cell"]], stressor)
        records.write({"record": kind, **plan["identity"], **place, **measured})
        port.say("done")
    return done


def main(share: Path) -> int:
    """Do what the shared folder's plan says; the exit status of the guest's command."""
    Path("/proc/self/oom_score_adj").write_text(NEVER_KILL)
    conditions.before_all_others(inherited=False)
    try:
        return 0 if drive(share) else 1
    except Exception as error:  # the guest's last words have to reach the host
        (share / "driver-error.txt").write_text(f"{type(error).__name__}: {error}\n")
        raise
