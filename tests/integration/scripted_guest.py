# SPDX-License-Identifier: GPL-2.0-only
"""Guests that follow a script: everything but `vng` itself is the real thing.

kdelta finds `vng` beside the interpreter that it runs on. So these tests run it
on an environment of their own, whose `vng` is a program that reads the plan
from the shared folder, as the driver in a guest would, and then does what the
test wants: writes records, panics, hangs, leaves processes behind.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
import textwrap
import time
import uuid
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.unit.analysis.synthetic import bench
from tests.workloads import PROGRAMS

# On a loaded machine everything takes long; a test that passes never waits for it.
PATIENCE_S = 90.0

VNG = """\
#!{python} -IS
import json, os, signal, socket, subprocess, sys, threading, time
from pathlib import Path

share = Path(next(a.split("=", 2)[2] for a in sys.argv if a.startswith("--rwdir=")))
plan_file = share / "plan.json"
plan = json.loads(plan_file.read_text()) if plan_file.exists() else None

def connect(name):
    line = socket.socket(socket.AF_UNIX)
    line.connect("../" + name)  # an absolute path may be too long for a socket's
    return line.makefile("rwb", buffering=0)

def monitor():
    # QEMU's, as far as kdelta talks to it.
    qmp = connect("qmp.sock")
    qmp.write(b'{{"QMP": {{"version": {{}}, "capabilities": []}}}}\\n')
    for line in qmp:
        stopped.append(json.loads(line)["execute"])
        with (share.parent / "monitor.log").open("a") as log:
            log.write(f"{{time.monotonic()}} {{stopped[-1]}}\\n")
        qmp.write(b'{{"event": "SOMETHING"}}\\n{{"return": {{}}}}\\n')

stopped = []
if share.with_name("qmp.sock").exists():
    threading.Thread(target=monitor, daemon=True).start()
port = None

def append(text):
    with (share / "records.jsonl").open("a") as file:
        file.write(text)

def record(kind, **values):
    append(json.dumps({{"record": kind, **values}}, separators=(",", ":")) + "\\n")

def boot(*failures):
    record("boot", schema=1, **plan["identity"],
           gate={{"ok": not failures, "failures": list(failures)}})

def ready():
    global port
    port = connect("port.sock")
    port.write(b"ready\\n")

def sample(order, number, error=None, oom_kill=0):
    record("sample", **plan["identity"], **order["place"], cell_order=number,
           cell=plan["cells"][order["cell"]]["levels"],
           workload=plan["cells"][order["cell"]]["workload"], status="failed" if error else "ok",
           error=error, exit_status=1 if error else 0,
           bench=None if error else {bench},
           grown={{"vmstat.oom_kill": oom_kill}})

served = 0

def serve(slices=10**9, error=None, oom_kill=0, pause_s=0):
    # What the driver's serve() does; ends early after so many slices.
    global served
    if port is None:
        ready()
    while slices:
        order = json.loads(port.readline() or "{{}}")
        if "cell" not in order:
            return
        time.sleep(pause_s)
        served += 1
        slices -= 1
        sample(order, served, error, oom_kill)
        port.write(b"done\\n")

def end(ok=True, error=None):
    record("end", samples=served, ok=ok, error=error)

def sweep(error=None, oom_kill=0, pause_s=0, late=None):
    boot()
    serve(error=error, oom_kill=oom_kill, pause_s=pause_s)
    end(ok=not late, error=late)

def say(text):
    print(text, flush=True)

"""

KDELTA = """\
#!{python}
import sys
from pathlib import Path

from kdelta.host import lock as hostlock

# The host's own lock belongs to measurements that count.
hostlock.lock_path = lambda: Path({lock!r})

from kdelta.cli import main

sys.exit(main())
"""


class Environment:
    """A Python environment with kdelta and all that it needs, and programs of the test's own."""

    def __init__(self, folder: Path, sources: Path | None = None) -> None:
        """Make it.

        Args:
            folder: where.
            sources: take the package kdelta from here rather than from where
                these tests have it.
        """
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        minor = f"python3.{sys.version_info.minor}"
        paths = {*site.getsitepackages(), sysconfig.get_path("purelib")}
        lines = [f"import site; site.addsitedir({path!r})" for path in sorted(paths)]
        if sources is not None:
            lines.append(f"import sys; sys.path.insert(0, {str(sources)!r})")
        (folder / "lib" / minor / "site-packages" / "zz-tests.pth").write_text("\n".join(lines))

    def program(self, name: str, text: str) -> None:
        """Install an executable."""
        path = self.bin / name
        path.unlink(missing_ok=True)  # it may be running: never write into it
        path.write_text(text)
        path.chmod(0o755)

    def guest(self, script: str) -> None:
        """Install a `vng` that does what `script` says, and a QEMU that says its version."""
        self.vng(script)
        self.program("qemu-system-x86_64", "#!/bin/sh\necho scripted\n")

    def vng(self, script: str) -> None:
        """Install a `vng` that does what `script` says, with the words of `VNG`."""
        words = VNG.format(python=self.python.resolve(), bench=bench({}, 100.0))
        self.program("vng", words + textwrap.dedent(script))

    def kdelta(self, lock: Path) -> None:
        """Install a `kdelta` that uses another lock than the host's."""
        self.program("kdelta", KDELTA.format(python=self.python, lock=str(lock)))


class Marked:
    """Processes that are found again by a mark in their environment, wherever they went."""

    def __init__(self) -> None:
        # One of the few variables that a guest's launcher passes on.
        self._mark = f"LOGNAME=kdelta-{uuid.uuid4().hex}"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment to start them with."""
        name, _, value = self._mark.partition("=")
        return {**os.environ, name: value, **more}

    def alive(self) -> dict[int, str]:
        """Command lines of those that run, by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    found[int(folder.name)] = b" ".join(words).decode(errors="replace")
            except OSError:
                continue  # it ended meanwhile
        return found

    def wait_gone(self) -> None:
        """Wait until none of them runs any more; fails if one stays."""
        wait_for(lambda: not self.alive(), lambda: f"still running: {self.alive()}")


def wait_for(condition: Callable[[], object], what: Callable[[], str] = lambda: "") -> None:
    """Wait until `condition` holds; fails after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what()}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


IMAGE: dict[str, Any] = {
    "kernel_release": "6.12.9",
    "config_sha256": "ab" * 32,
    "key": "0123456789abcdef",
    "image_sha256": "cd" * 32,
}


def lay_out_inputs(root: Path, arms: Sequence[str]) -> list[str]:
    """What a block needs besides the experiment; returns `kdelta measure`'s arguments for it."""
    for arm in arms:
        folder = root / "kernels" / arm
        folder.mkdir(parents=True)
        (folder / "vmlinuz").write_bytes(b"a kernel\n")
        (folder / "image.json").write_text(json.dumps(IMAGE))
    for program in PROGRAMS:
        (root / program).write_bytes(b"a static program\n")
    (root / "acceleration.json").write_text(json.dumps({"mode": "tcg", "reason": "asked for"}))
    return [
        *("--kernels", "kernels", "--programs", "."),
        *("--acceleration", "acceleration.json"),
    ]


def start(argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Start a program with its output piped, in a session of its own."""
    return subprocess.Popen(
        list(map(str, argv)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
