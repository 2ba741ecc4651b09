# SPDX-License-Identifier: GPL-2.0-only
"""One boot of a scripted guest, and every way in which it goes wrong."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdelta.architecture import host_architecture
from kdelta.errors import KdeltaError
from kdelta.guest import boot
from kdelta.guest.boot import BootError, BootRequest, BootResult, LiveBoot
from kdelta.guest.pinning import Pinning
from tests.integration.scripted_guest import PATIENCE_S, Environment, Marked, wait_for
from tests.workloads import PROGRAMS

CELLS = [{"workload": "pipe_bench", "levels": {"writers": n}, "argv": []} for n in (1, 2, 5)]
PLAN: dict[str, Any] = {
    "identity": {"regime": "idle", "block": 1, "arm": "patched"},
    "stressor": None,
    "mechanism": False,
    "programs": ["pipe_bench", "speed_check"],
    "cells": CELLS,
    "slices": len(CELLS),
    "silence_s": PATIENCE_S,
}


class Boot:
    """Boots a scripted guest, and keeps what there is to look at afterwards."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        for name in ("vmlinuz", *PROGRAMS):
            (folder / name).write_bytes(b"bytes\n")
        self.environment = environment
        self.console = folder / "patched.console.log"
        self.partial = folder / "patched.console.partial.jsonl"
        self.request = BootRequest(
            label="idle, block 1, arm patched",
            arch=host_architecture(),
            kernel=folder / "vmlinuz",
            programs=folder,
            acceleration="tcg",
            vcpus=1,
            memory_mib=256,
            plan=PLAN,
            boot_timeout_s=PATIENCE_S,
            deadline_s=2 * PATIENCE_S,
        )

    def run(self, script: str, **changes: Any) -> BootResult:
        self.environment.guest(script)
        request = replace(self.request, **changes)
        return boot_arm(request, self.console)

    def fails(self, script: str, **changes: Any) -> str:
        with pytest.raises(KdeltaError) as caught:
            self.run(script, **changes)
        said = str(caught.value)
        assert said.startswith("idle, block 1, arm patched: ")
        assert str(self.console) in said
        assert "\n" not in said
        return said

    def kept(self) -> list[str]:
        return [json.loads(line)["record"] for line in self.partial.read_text().splitlines()]


def boot_arm(
    request: BootRequest, console: Path, before: Callable[[int], None] = lambda number: None
) -> BootResult:
    """Boot a guest, alone, and let it run every cell once; `before` is told the cell's number."""
    with contextlib.closing(LiveBoot(request, console)) as live:
        while not live.ready:
            live.look(0.05)
        for number in range(len(request.plan["cells"])):
            before(number)
            live.stop()
            live.go_on()
            live.measure(number, {"round": 1, "slot": 1})
        return live.finish()


@pytest.fixture
def guest(scripted: Environment, tmp_path: Path) -> Boot:
    return Boot(scripted, tmp_path)


def test_a_whole_sweep(guest: Boot) -> None:
    result = guest.run("say('booting'); sweep(pause_s=0.3); say('down')")
    kinds = [record["record"] for record in result.records]
    assert kinds == ["boot", "sample", "sample", "sample", "end"]
    assert result.boot_s > 0
    assert guest.console.read_text() == "booting\ndown\n"
    assert not guest.partial.exists()


def test_the_guest_finds_its_files(guest: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        assert sorted(os.listdir(share)) == [
            "guest_init", "kdelta", "pipe_bench", "plan.json", "speed_check", "start.py", "vmlinuz"
        ]
        assert (share / "kdelta/guest/driver.py").exists()
        assert any("/run/kdelta/start.py" in word for word in sys.argv)
        # a user's own configuration of virtme-ng must not change the guest
        assert os.environ["HOME"] == os.environ["XDG_CONFIG_HOME"] == str(share)
        assert set(os.environ) <= {
            "PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "USER", "LOGNAME", "LC_ALL", "TZ"
        }, os.environ
        sweep()
    """
    monkeypatch.setenv("TERM", "xterm-fancy")
    monkeypatch.setenv("KBUILD_OUTPUT", "/elsewhere")
    assert len(guest.run(script).records) == 5


@pytest.mark.parametrize("ending", ["sweep()", "boot(); serve(1); sys.exit(1)"])
def test_a_scratch_disk_is_a_sparse_file_of_the_guests_own_and_goes_with_it(
    guest: Boot, tmp_path: Path, ending: str
) -> None:
    script = f"""
        (line,) = (word for word in sys.argv if word.startswith("--qemu-opts="))
        disk = Path(line.partition("file=")[2].partition(",")[0])
        # Not where the guest can write to it in another way.
        assert disk.is_absolute() and share not in disk.parents
        found = disk.stat()
        Path({str(tmp_path / "told")!r}).write_text(
            json.dumps([str(disk), found.st_size, found.st_blocks])
        )
        {ending}
    """
    with contextlib.suppress(BootError):
        guest.run(script, disk_bytes=2**30)
    path, size, blocks = json.loads((tmp_path / "told").read_text())
    assert (size, blocks) == (2**30, 0)
    assert not Path(path).exists()
    assert not Path(path).parent.exists()


def test_one_that_never_starts(guest: Boot) -> None:
    said = guest.fails("time.sleep(1000)", boot_timeout_s=0.5)
    assert "the guest did not boot: no sign of life within 0.5 s (guest.boot_timeout_s)" in said
    assert "'(the console is empty)'" in said
    assert not guest.partial.exists()


def test_one_that_gets_stuck_on_its_way(guest: Boot) -> None:
    # A deadline that leaves time to speak; it is waited for in full.
    said = guest.fails("say('Freeing unused kernel memory'); time.sleep(1000)", boot_timeout_s=4)
    assert "The console ends with: 'Freeing unused kernel memory'" in said


def test_one_that_ends_before_its_first_record(guest: Boot) -> None:
    said = guest.fails("say('qemu: no such machine'); sys.exit(3)")
    assert "did not boot: it ended (status 3) before its first command" in said
    assert "The console ends with: 'qemu: no such machine'" in said


def test_one_that_panics_at_boot(guest: Boot) -> None:
    said = guest.fails("say('[ 1.0] Kernel panic - not syncing: VFS: no root\\nmore'); sys.exit(1)")
    assert "The console says: '[ 1.0] Kernel panic - not syncing: VFS: no root'" in said


def test_a_panic_in_the_middle(guest: Boot) -> None:
    script = """
        boot(); serve(2)
        say("BUG: unable to handle page fault\\nKernel panic - not syncing: Fatal exception")
        say("---[ end ]---")
    """
    said = guest.fails(script)
    assert "the guest ended after 2 of 3 slices" in said
    assert "The console says: 'Kernel panic - not syncing: Fatal exception'" in said
    assert guest.kept() == ["boot", "sample", "sample"]


def test_a_sweep_that_hangs(guest: Boot) -> None:
    said = guest.fails(
        "boot(); serve(1); time.sleep(1000)",
        boot_timeout_s=2,
        deadline_s=4,
    )
    assert "the guest was killed at its deadline after 1 of 3 slices" in said
    assert guest.kept() == ["boot", "sample"]


def test_a_deadline_that_is_told_later_than_it_kills(
    guest: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's lines die before its supervisor has ended, which says why."""
    monkeypatch.setattr(boot, "ENDING_S", PATIENCE_S)
    script = "boot(); serve(1); port.readline(); port.close(); time.sleep(1000)"
    said = guest.fails(script, boot_timeout_s=2, deadline_s=4)
    assert "the guest was killed at its deadline after 1 of 3 slices" in said


def test_a_guest_that_falls_silent(guest: Boot) -> None:
    """It is given up long before the deadline of the whole sweep."""
    plan = {**PLAN, "silence_s": 1.5}
    said = guest.fails("boot(); serve(1); time.sleep(1000)", plan=plan)
    assert "the guest was given up, silent for 1.5 s, after 1 of 3 slices" in said
    assert guest.kept() == ["boot", "sample"]
    # A late beginning is the boot's business.
    guest.run("time.sleep(3); sweep()", plan=plan)


def test_the_wrong_guest(guest: Boot) -> None:
    script = "boot('vcpus is 1, asked for 2', 'memory is 1 KiB, asked for 2 KiB'); end(False)"
    said = guest.fails(script)
    assert (
        "this guest is not the one asked for: "
        "vcpus is 1, asked for 2; memory is 1 KiB, asked for 2 KiB." in said
    )


def test_the_wrong_kernel(guest: Boot) -> None:
    """Built so, whatever did it: measuring again would boot it again."""
    script = "boot(\"/proc/version does not name build 'abc': 'Linux'\"); end(False)"
    said = guest.fails(script)
    assert "/proc/version does not name build 'abc': 'Linux'" in said
    assert f"delete {guest.request.kernel.parent} and the cache" in said
    assert "the cache" not in guest.fails("boot('vcpus is 1, asked for 2'); end(False)")


def test_a_driver_that_fails(guest: Boot) -> None:
    script = """
        boot(); serve(1)
        (share / "driver-error.txt").write_text("OSError: [Errno 28] No space left on device\\n")
        sys.exit(1)
    """
    said = guest.fails(script)
    assert "the driver failed in the guest: OSError: [Errno 28] No space left on device." in said
    assert guest.kept() == ["boot", "sample"]


@pytest.mark.parametrize("tail", ['{"record":"samp', '{"record":"end","ok":true}', "\\0\\0\\0"])
def test_a_last_record_cut_short(guest: Boot, tail: str) -> None:
    said = guest.fails(f"boot(); serve(1); append('{tail}')")
    assert "the guest ended after 1 of 3 slices" in said


def test_one_that_does_not_switch_off(
    guest: Boot, monkeypatch: pytest.MonkeyPatch, marked: Marked
) -> None:
    monkeypatch.setattr(boot, "POWER_OFF_S", 0.3)
    monkeypatch.setattr("os.environ", marked.environment())
    begun = time.monotonic()
    result = guest.run("sweep(); time.sleep(1000)")
    assert time.monotonic() - begun < PATIENCE_S, "its deadline was not waited for"
    assert result.records[-1]["record"] == "end"
    marked.wait_gone()


def test_a_flood_on_the_console(guest: Boot) -> None:
    script = """
        boot()
        line = b"x" * 1023 + b"\\n"
        for order in range(1, 4):
            for _ in range(4096):
                os.write(1, line)
            serve(1)
        os.write(1, b"the last word")
        end()
    """
    assert len(guest.run(script).records) == 5
    assert guest.console.stat().st_size == 3 * 4 * 2**20 + 13
    assert guest.console.read_bytes().endswith(b"the last word")


def test_a_console_that_is_no_text(guest: Boot) -> None:
    said = guest.fails("os.write(1, b'\\xff\\xfe\\x00 Kernel panic: \\x80'); sys.exit(1)")
    assert "Kernel panic" in said


def test_a_full_disk_is_told_and_hangs_nobody(guest: Boot) -> None:
    guest.console = Path("/dev/full")
    guest.environment.guest("os.write(1, b'x' * 2**20); sweep()")
    with pytest.raises(KdeltaError, match=r"/dev/full: the guest's console cannot be written: "):
        boot_arm(guest.request, guest.console)


def test_one_that_ignores_signals_and_hides(
    guest: Boot, monkeypatch: pytest.MonkeyPatch, marked: Marked, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    script = f"""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                Path({str(ready)!r}).touch()
                time.sleep(1000)
            os._exit(0)
        while not Path({str(ready)!r}).exists():
            time.sleep(0.01)
        sweep()
        sys.exit(0)
    """
    monkeypatch.setattr("os.environ", marked.environment())
    assert len(guest.run(script).records) == 5
    assert ready.exists()
    marked.wait_gone()


def test_a_caller_that_fails_takes_its_guest_along(
    guest: Boot, monkeypatch: pytest.MonkeyPatch, marked: Marked
) -> None:
    monkeypatch.setattr("os.environ", marked.environment())
    guest.environment.guest("boot(); serve(1); time.sleep(1000)")

    def interrupt(number: int) -> None:
        if number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        boot_arm(guest.request, guest.console, interrupt)
    marked.wait_gone()
    assert guest.kept() == ["boot", "sample"]


def test_an_image_that_is_not_there(guest: Boot, tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=re.escape(str(tmp_path / "none"))):
        guest.run("sweep()", kernel=tmp_path / "none")


def test_settling_is_no_part_of_booting(guest: Boot) -> None:
    """A guest whose stressor takes long has booted; one that does not boot is given up in time."""
    plan = PLAN | {"stressor": {"settle_timeout_s": PATIENCE_S}}
    script = """
        boot(); time.sleep(2); record("stressor", **plan["identity"], settled=True)
        serve(); end()
    """
    # The interpreter alone may take long to start on a loaded machine.
    begun = time.monotonic()
    result = guest.run(script, plan=plan)
    assert time.monotonic() - begun - result.boot_s >= 1.9
    begun = time.monotonic()
    said = guest.fails("time.sleep(1000)", plan=plan, boot_timeout_s=0.5)
    assert "no sign of life within 0.5 s (guest.boot_timeout_s)" in said
    assert time.monotonic() - begun < PATIENCE_S


def test_one_that_dies_while_its_stressor_settles(guest: Boot) -> None:
    plan = PLAN | {"stressor": {"settle_timeout_s": 60}}
    said = guest.fails("boot(); say('Kernel panic - not syncing: oom'); sys.exit(1)", plan=plan)
    assert "the guest ended while its stressor was to settle, before the first cell." in said
    assert "Kernel panic - not syncing: oom" in said
    assert guest.kept() == ["boot"]


def test_one_that_leaves_the_gate_late(guest: Boot) -> None:
    result = guest.run("sweep(late='2 cgroups existed before and are not gone yet')")
    assert result.changed == "2 cgroups existed before and are not gone yet"
    assert len(result.records) == 5
    assert guest.run("sweep()").changed is None


@pytest.mark.parametrize(
    ("mischief", "what"),
    [
        ("(share / 'records.jsonl').symlink_to('/etc/passwd')", "something else than a file"),
        ("os.mkfifo(share / 'records.jsonl')", "something else than a file"),
        ("(share / 'driver-error.txt').mkdir()", "driver-error.txt something else than a file"),
        ("append('x' * 70 * 2**20)", "more than 64 MiB of records"),
        (
            "[(share / n).write_bytes(b'x' * 50 * 2**20) for n in 'ab']",
            "more than 96 MiB into the folder shared with the host",
        ),
        ("[(share / str(n)).touch() for n in range(1100)]", "more than 1000 files"),
        ("[os.write(1, b'x' * 2**20) for n in range(70)]", "more than 64 MiB to its console"),
    ],
)
def test_one_that_misuses_its_folder(guest: Boot, mischief: str, what: str) -> None:
    """Nothing of the host's comes into the results, and nobody waits for its deadline."""
    begun = time.monotonic()
    said = guest.fails(f"{mischief}; time.sleep(1000)")
    assert "the guest was ended: it " in said
    assert what in said
    assert time.monotonic() - begun < PATIENCE_S, "its deadline was not waited for"
    assert not guest.partial.exists() or guest.partial.stat().st_size <= 64 * 2**20
    assert not guest.partial.exists() or b"root:" not in guest.partial.read_bytes()


def test_links_in_the_folder_are_not_followed(guest: Boot, tmp_path: Path) -> None:
    """Whatever the guest does at its very end, when nobody looks any more."""
    secret = tmp_path / "secret"
    secret.write_text('{"record":"boot","gate":{"ok":true}}\n')
    said = guest.fails(f"(share / 'records.jsonl').symlink_to({str(secret)!r})")
    assert "something else than a file" in said
    assert not guest.partial.exists()


@pytest.mark.parametrize(
    "text", ["\\x1b]0;title\\x07 Kernel panic\\x1b[2J\\r", "Kernel panic\\u202e"]
)
def test_what_a_guest_says_is_safe_to_print(guest: Boot, text: str) -> None:
    for script in (
        f"say('{text}'); sys.exit(1)",
        f"boot('{text}'); end(False)",
        f"boot(); (share / 'driver-error.txt').write_text('{text}'); sys.exit(1)",
    ):
        said = guest.fails(script)
        assert "Kernel panic" in said
        # repr() shows what it could not print, and that is safe too
        assert said.isprintable(), repr(said)


@pytest.mark.parametrize(
    "record", ["[1]", "1", '{"x":1}', '{"record":[]}', '{"record":"boot","gate":7}']
)
def test_a_record_that_is_none(guest: Boot, record: str) -> None:
    """Garbage is what a broken kernel may write: a finding of its arm, not a traceback."""
    with pytest.raises(KdeltaError):
        guest.run(f"append({record!r} + chr(10))")


def test_a_folder_for_temporary_files_that_a_shell_minds(
    guest: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b;touch c $(x)"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    script = """
        import re
        assert re.fullmatch(r"[A-Za-z0-9_./+@-]+", str(share)), share
        assert os.environ["TMPDIR"] == str(share.parent)
        sweep()
    """
    assert len(guest.run(script).records) == 5
    assert not list(folder.iterdir())


def test_folders_of_killed_runs_are_deleted(
    guest: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "tmp"
    base.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(base))
    dead, alive = base / "kdelta-guest-dead", base / "kdelta-guest-alive"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "vmlinuz").write_bytes(b"x")
        os.utime(folder, (1, 1))
    other = base / "kdelta-guest-link"
    other.symlink_to(tmp_path)
    running = {
        folder: subprocess.Popen(["tail", "-f", "/dev/null", f"init={folder}/share/guest_init"])
        for folder in (dead, alive)
    }
    lock = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        guest.run("sweep()")
        # A guest that was killed with its supervisor is ended; one that is in use is not.
        assert running[dead].wait(PATIENCE_S) == -signal.SIGKILL
        assert running[alive].poll() is None
    finally:
        os.close(lock)
        for process in running.values():
            process.kill()
            process.wait()
    assert sorted(path.name for path in base.iterdir()) == [alive.name, other.name]
    assert guest.request.kernel.exists()


def test_one_whose_supervisor_is_killed_leaves_nothing(guest: Boot, marked: Marked) -> None:
    """QEMU is no child of vng's: what started it does not end it."""
    script = """
        boot()
        sleep = [sys.executable, "-c", "import time; time.sleep(1000)", f"init={share}/guest_init"]
        qemu = subprocess.Popen(sleep, start_new_session=True, env=%r)
        ready()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    """
    said = guest.fails(script % marked.environment())
    assert "the guest ended after 0 of 3 slices" in said
    marked.wait_gone()


def test_vcpus_are_looked_for_only_until_something_is_measured(
    guest: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def never(*_: object) -> bool:
        tries.append(time.monotonic())
        return False

    monkeypatch.setattr("kdelta.guest.launch.pin_vcpus", never)
    result = guest.run("boot(); time.sleep(3); serve(); end()", pinning=Pinning((0,), ()))
    assert tries
    # one more may have been under way
    assert len([t for t in tries if t > tries[0] + result.boot_s]) <= 1
    assert not result.pinned


def test_the_shared_folder_is_gone_afterwards(
    guest: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    guest.run("sweep()")
    guest.fails("sys.exit(1)")
    wait_for(lambda: not list(folder.iterdir()), lambda: str(list(folder.iterdir())))
