# SPDX-License-Identifier: GPL-2.0-only
"""Pinning of vCPU threads, on a process whose threads are named as QEMU's are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kdelta.guest.pinning import DEBUG_THREADS, Pinning, pin_vcpus

# A shell between us and "QEMU", as virtme-ng has one. The names arrive as the lines do.
GUEST = """
import os, sys, threading
from pathlib import Path

def run(name, named):
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
    print(name, threading.get_native_id(), flush=True)
    named.wait()

hold = threading.Event()
for line in sys.stdin:
    threading.Thread(target=run, args=(line.strip(), hold), daemon=True).start()
"""


@contextmanager
def guest() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["sh", "-c", '"$0" -c "$1"; true', sys.executable, GUEST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.communicate(timeout=20)


def thread(process: subprocess.Popen[str], name: str) -> int:
    """Start a thread of that name; its number."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(name + "\n")
    process.stdin.flush()
    return int(process.stdout.readline().rpartition(" ")[2])


@pytest.mark.parametrize("accelerator", ["KVM", "TCG"])
def test_each_vcpu_gets_its_cpu_and_the_rest_another(accelerator: str) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("needs two CPUs")
    cpus = (allowed[1], allowed[0])
    with guest() as process:
        assert not pin_vcpus(process.pid, cpus)
        other = thread(process, "call_rcu")
        first = thread(process, f"CPU 0/{accelerator}")
        # One of two is not enough: nothing is moved yet.
        assert not pin_vcpus(process.pid, cpus)
        assert os.sched_getaffinity(first) == set(allowed)
        second = thread(process, f"CPU 1/{accelerator}")
        assert pin_vcpus(process.pid, cpus, rest=[allowed[0]])
        assert os.sched_getaffinity(first) == {allowed[1]}
        assert os.sched_getaffinity(second) == {allowed[0]}
        assert os.sched_getaffinity(other) == {allowed[0]}


def test_a_guest_of_fewer_vcpus_is_pinned_too() -> None:
    """An arm may have fewer than the others of its block, whose CPUs it shares."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("needs two CPUs")
    pinning = Pinning((allowed[1], allowed[0]), (allowed[0],)).first(1)
    with guest() as process:
        vcpu = thread(process, "CPU 0/TCG")
        assert pin_vcpus(process.pid, pinning.cpus, pinning.rest)
        assert os.sched_getaffinity(vcpu) == {allowed[1]}


def test_the_rest_goes_where_no_vcpu_is() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("needs two CPUs")
    with guest() as process:
        vcpu = thread(process, "CPU 0/TCG")
        worker = thread(process, "worker")
        assert pin_vcpus(process.pid, allowed[:1])
        assert os.sched_getaffinity(vcpu) == set(allowed[:1])
        assert os.sched_getaffinity(worker) == set(allowed[1:])


def test_a_guest_that_is_gone() -> None:
    with guest() as process:
        pass
    assert not pin_vcpus(process.pid, [0])


def test_the_option_names_threads() -> None:
    assert DEBUG_THREADS[0] == "-name"
    assert "debug-threads=on" in DEBUG_THREADS[1]
