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

import contextlib
import importlib
import json
import math
import os
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kdelta.guest import conditions
from kdelta.guest.counters import grown, moment, parse_meminfo
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


def acceleration(evidence: list[Json]) -> str:
    """What executes this guest: `kvm` or `tcg`, by the first evidence that there is."""
    for one in evidence:
        if one["file"] is None or one["holds"] in whole_text(Path(one["file"])):
            return str(one["mode"])
    return "unknown"


def whole_text(path: Path) -> str:
    """All that a file of the kernel's has to say now; empty of one that is not there.

    The kernel's log gives a message at a time, and then waits for the next one unless told not to.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    pieces = []
    try:
        while piece := os.read(file, 8192):
            pieces.append(piece)
    except BlockingIOError:  # there will be more, later
        pass
    finally:
        os.close(file)
    return b"".join(pieces).decode("utf-8", "replace")


def observe_guest(evidence: list[Json]) -> Json:
    """The facts about this guest that the boot gate compares with the plan.

    Args:
        evidence: what shows what executes it, see `kdelta.architecture.Evidence`.
    """
    meminfo = parse_meminfo(Path("/proc/meminfo").read_text())
    controllers = (conditions.CGROUP_ROOT / "cgroup.controllers").read_text().split()
    return {
        "kernel_release": os.uname().release,
        "kernel_version": Path("/proc/version").read_text().strip(),
        "config_sha256": own_config(),
        "build_id": build_id(),
        "vcpus": len(os.sched_getaffinity(0)),
        "memory_total_kib": meminfo["MemTotal"],
        "memory_used_kib": meminfo["MemTotal"] - meminfo["MemAvailable"],
        "swap_total_kib": meminfo["SwapTotal"],
        "disk_bytes": conditions.disk_bytes(),
        "memory_controller": "memory" in controllers,
        **observe_cgroups(),
        "acceleration": acceleration(evidence),
        "machine": os.uname().machine,
        "page_kib": os.sysconf("SC_PAGE_SIZE") // 1024,
        "cmdline": Path("/proc/cmdline").read_text().strip(),
        "mitigations": mitigations(),
    }


def mitigations(folder: Path = Path("/sys/devices/system/cpu/vulnerabilities")) -> dict[str, str]:
    """The kernel's words on each vulnerability of processors, by its name."""
    found = {}
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(OSError):  # one that cannot be read says nothing
            found[path.name] = path.read_text().strip()
    return found


def unknown_parameters(log: str) -> list[str]:
    """Words of its command line that the kernel has no use for, as its log says (5.14 and later).

    It leaves them to init: a word that is mistyped, or of an option that it was built without,
    changes nothing.
    """
    begin, end = 'Unknown kernel command line parameters "', '", will be passed to user space'
    _, _, told = log.partition(begin)
    return told.partition(end)[0].split() if end in told else []


def own_config(path: Path = Path("/proc/config.gz")) -> str | None:
    """SHA-256 of the kernel's configuration; None of a kernel that does not tell it (IKCONFIG)."""
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        return None
    return sha256(zlib.decompress(packed, wbits=16 + zlib.MAX_WBITS))


def build_id(path: Path = Path("/sys/kernel/notes")) -> str | None:
    """The running kernel's GNU build ID, in hexadecimal; None of one that was linked without."""
    try:
        notes = path.read_bytes()
    except OSError:
        return None
    while len(notes) >= 12:
        name_size, size, kind = struct.unpack_from("=III", notes)
        begin = 12 + (name_size + 3) // 4 * 4
        if kind == 3 and notes[12 : 12 + name_size] == b"GNU\0":
            return notes[begin : begin + size].hex()
        notes = notes[begin + (size + 3) // 4 * 4 :]
    return None


def sha256(data: bytes) -> str:
    """SHA-256 of the data, in hexadecimal.

    By the interpreter's own module: hashlib loads OpenSSL, which takes as long as everything else
    that the gate does.
    """
    for name in ("_sha2", "_sha256", "hashlib"):  # from 3.12, before, and where neither is built
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return str(module.sha256(data).hexdigest())
    raise RuntimeError("this Python has no SHA-256")


def observe_cgroups() -> Json:
    """How many memory cgroups there are, the root included, and how many were removed."""
    stat = (conditions.CGROUP_ROOT / "cgroup.stat").read_text()
    return {
        "memory_cgroups": conditions.count_memory_cgroups(conditions.CGROUP_ROOT),
        "dying_cgroups": conditions.dying_cgroups(stat),
    }


def workload_cgroup(start: Callable[[], None]) -> str:
    """The cgroup that a process begun as the workload is finds itself in, such as `/`."""
    done = subprocess.run(
        ["/bin/cat", "/proc/self/cgroup"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=start,
    )
    return done.stdout.strip().rpartition(":")[2]


def gate_failures(observed: Json, expected: Json) -> list[str]:
    """What about this guest is not as asked for; empty when all is."""
    failures = []
    for name in ("kernel_release", "vcpus", "acceleration", "memory_controller"):
        if observed[name] != expected[name]:
            failures.append(f"{name} is {observed[name]!r}, asked for {expected[name]!r}")
    # What is not known of a kernel cannot be asked for.
    for name in ("config_sha256", "build_id", "page_kib"):
        if expected[name] is not None and observed[name] != expected[name]:
            failures.append(f"{name} is {observed[name]!r}, asked for {expected[name]!r}")
    for word in expected["version_has"]:
        if word not in observed["kernel_version"]:
            failures.append(
                f"/proc/version does not name build {word!r}: {observed['kernel_version']!r}"
            )
    if observed["machine"] not in expected["machines"]:
        asked_for = " or ".join(expected["machines"])
        failures.append(f"machine is {observed['machine']!r}, asked for {asked_for}")
    # The kernel keeps some of the memory for itself before MemTotal is counted.
    total, asked = observed["memory_total_kib"], expected["memory_mib"] * 1024
    if not 0.85 * asked <= total <= asked:
        failures.append(f"memory is {total} KiB, asked for {asked} KiB")
    told = observed["cmdline"].split()
    failures += [
        f"the kernel was not told {word!r}: /proc/cmdline does not have it"
        for word in expected["boot_parameters"]
        if word not in told
    ]
    failures += [
        f"the kernel has no parameter {word!r}, as it says itself: a typing mistake, or an option "
        "that it was built without"
        for word in expected["boot_parameters"]
        if word in observed["unknown_parameters"]
    ]
    failures += cgroup_failures(observed, expected)
    if observed["workload_cgroup"] not in (None, expected["workload_cgroup"]):
        failures.append(
            f"the workload runs in cgroup {observed['workload_cgroup']!r}, "
            f"asked for {expected['workload_cgroup']!r}"
        )
    # A swap device gives its first page to the header.
    swap, wanted = observed["swap_total_kib"], expected["swap_total_kib"]
    if not wanted - 64 <= swap <= wanted:
        failures.append(f"swap is {swap} KiB, asked for {wanted} KiB")
    if observed["disk_bytes"] != expected["disk_bytes"]:
        failures.append(
            f"the scratch disk has {observed['disk_bytes']} bytes, asked for "
            f"{expected['disk_bytes']} (CONFIG_VIRTIO_BLK)"
        )
    return failures


def cgroup_failures(observed: Json, expected: Json) -> list[str]:
    """Memory cgroups that there are or were beside those asked for."""
    failures = []
    if observed["memory_cgroups"] != expected["memory_cgroups"]:
        failures.append(
            f"{observed['memory_cgroups']} memory cgroups exist, "
            f"asked for {expected['memory_cgroups']} (1 is the root alone)"
        )
    if observed["dying_cgroups"]:
        failures.append(f"{observed['dying_cgroups']} cgroups existed before and are not gone yet")
    return failures


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
