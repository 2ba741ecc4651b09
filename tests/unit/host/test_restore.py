# SPDX-License-Identifier: GPL-2.0-only
"""Settings of the host are restored after an interruption, a kill, a reboot."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from host_files import CPU, contents, put

from kdelta.errors import KdeltaError
from kdelta.experiment import Environment
from kdelta.host.environment import (
    host_environment,
    replay_messages,
    restore_left_behind,
)
from kdelta.host.restore import Change, Journal, journal_path

ALL = Environment()


CHILD = """
import os, sys
from pathlib import Path
from kdelta.experiment import Environment
from kdelta.host.environment import host_environment

os.sched_getaffinity = lambda pid: {0, 1, 2, 3}
with host_environment(Environment(), 2, Path(sys.argv[1]), Path(sys.argv[2])):
    print("set", flush=True)
    sys.stdin.read()
"""


def child(root: Path, journal: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(root), str(journal)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"set\n"
    return process


@contextmanager
def default_action(signum: int) -> Iterator[None]:
    """What a process that is started meanwhile does on a signal."""
    before = signal.signal(signum, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signum, before)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_restored_by_the_process_itself(root: Path, journal: Path, signum: int) -> None:
    before = contents(root)
    # A run under nohup ignores a hang-up, and so do its children.
    with default_action(signum):
        process = child(root, journal)
    assert contents(root) != before
    process.send_signal(signum)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert contents(root) == before
    assert not journal.exists()


def test_restored_by_the_next_one_after_a_kill(root: Path, journal: Path) -> None:
    before = contents(root)
    process = child(root, journal)
    process.kill()
    process.communicate(timeout=20)
    assert contents(root) != before
    assert stat.S_IMODE(journal.parent.stat().st_mode) == 0o700
    assert json.loads(journal.read_text())["process"] == process.pid

    said: list[str] = []
    with host_environment(ALL, 2, root, journal, said.append) as environment:
        # The record names what was there before either of them.
        assert environment.record()["set"][1]["from"] == "powersave, schedutil"
    assert said == [
        "6 settings of this host restored, which a run had changed before it was killed"
    ]
    assert contents(root) == before


KILLED_WHILE_SETTING = """
import os, signal, sys
from pathlib import Path
from kdelta.experiment import Environment
from kdelta.host import restore
from kdelta.host.environment import host_environment

os.sched_getaffinity = lambda pid: {0, 1, 2, 3}
write, left = restore.write_setting, int(sys.argv[3])

def writing(path, text):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, text)

restore.write_setting = writing
with host_environment(Environment(), 2, Path(sys.argv[1]), Path(sys.argv[2])):
    pass
"""


# Six settings are written and six restored.
@pytest.mark.parametrize("writes", [0, 1, 5, 6, 8, 11])
def test_a_kill_between_any_two_writes(root: Path, journal: Path, writes: int) -> None:
    before = contents(root)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SETTING, str(root), str(journal), str(writes)],
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert (contents(root) != before) == (writes > 0)
    _, restored = restore_left_behind(root, journal)
    assert restored.messages == ()
    assert contents(root) == before
    assert not journal.exists()


def test_restored_on_demand_after_a_kill(root: Path, journal: Path) -> None:
    before = contents(root)
    process = child(root, journal)
    process.kill()
    process.communicate(timeout=20)
    put(root, f"{CPU}/cpufreq/boost", "somebody's")
    path, restored = restore_left_behind(root, journal)
    assert path == journal
    assert restored.done == 5
    assert len(replay_messages(restored)) == 2
    assert contents(root) == before | {f"{CPU}/cpufreq/boost": "somebody's"}
    assert replay_messages(restore_left_behind(root, journal)[1]) == []


def test_a_journal_from_before_a_reboot_is_void(root: Path, journal: Path) -> None:
    boost = root / CPU / "cpufreq/boost"
    Journal(journal, root).write([Change(boost, "0", "1")])
    put(root, "proc/sys/kernel/random/boot_id", "another-boot")
    assert restore_left_behind(root, journal)[1].done == 0
    assert boost.read_text() == "1\n"
    assert not journal.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not a journal"), ("[]", "not a journal"), ('{"changes": []}', "not a journal")],
)
def test_a_journal_that_cannot_be_used(root: Path, journal: Path, text: str, words: str) -> None:
    put(journal.parent, journal.name, text)
    with pytest.raises(KdeltaError, match=words) as caught:
        restore_left_behind(root, journal)
    assert str(journal) in str(caught.value)
    assert "delete it" in str(caught.value)


@pytest.mark.parametrize("name", ["etc/passwd", f"{CPU}/../../../../etc/passwd"])
def test_a_journal_restores_settings_and_nothing_else(root: Path, journal: Path, name: str) -> None:
    put(root, "etc/passwd", "changed")
    Journal(journal, root).write([Change(root / name, "forged", "changed")])
    with pytest.raises(KdeltaError, match="no setting that kdelta changes"):
        restore_left_behind(root, journal)
    assert contents(root)["etc/passwd"] == "changed"


def test_where_the_journal_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert journal_path() == Path("/run/kdelta/environment.json")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert journal_path().parent == tmp_path / "kdelta"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert journal_path().parent == tmp_path / ".local/state/kdelta"
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(OSError, match="no home folder"):
        journal_path()
