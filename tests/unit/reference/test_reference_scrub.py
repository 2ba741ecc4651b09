# SPDX-License-Identifier: GPL-2.0-only
"""What is private goes, everything else stays to the byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.reference.scrub import Scrubber
from tests.unit.reference.reference_runs import CONSOLE, SECRETS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("init=/home/alice/bin/virtme-ng-init panic=-1", "init=<path> panic=-1"),
        ("see /srv/a/b.log, then go", "see <path> then go"),
        ('"/tmp/x/"', '"<path>"'),
        ("/run/user/1000/kdelta/x", "<path>"),
        ("virtme.exec=`L3Jvb3QvL=` x", "virtme.exec=<command> x"),
        ("virtme.exec=`L3Jvb3QvLnB", "virtme.exec=<command>"),
        ("virtme_chdir=home/alice/tmp/k x", "virtme_chdir=<path> x"),
        ("on pluto: alice@pluto", "on <name>: <name>@<name>"),
    ],
)
def test_private(text: str, clean: str) -> None:
    assert Scrubber(["alice", "pluto"]).text(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "8250/16550 driver; x86/PAT; 3/4; ../../target/i386/kvm/kvm.c:3183; fs/pipe.c",
        "/proc/pressure/memory /sys/devices/system/cpu /usr/bin/qemu /dev/kvm /run/kdelta/plan",
        "virtme_rw_overlay2=/home virtme_rw_overlay7=/tmp virtme_hostname=virtme-ng",
        "https://git.kernel.org/pub/scm/linux.git",
        "plutonium, alices, x-pluto-y",
        "root user debian localhost ab",
    ],
)
def test_public(text: str) -> None:
    scrubber = Scrubber(["alice", "pluto", "root", "user", "debian", "ab"])
    assert scrubber.text(text) == text
    assert not scrubber.counts


def test_nodes_stay_apart() -> None:
    scrubber = Scrubber(["alice", "pluto"], ["mars-1", "pluto", "n1", "mars-10"])
    assert scrubber.value(["mars-1", "pluto", "n1", "mars-10", "alice", "mars"]) == [
        *("<node 1>", "<node 2>", "n1", "<node 4>"),
        *("<name>", "mars"),
    ]
    assert scrubber.counts == {"name": 4}


def test_a_console_keeps_all_of_its_lines() -> None:
    scrubber = Scrubber(["pluto"])
    clean = scrubber.log_file(CONSOLE.encode() + b"\xff\x80 raw\r\n")
    assert not [secret for secret in SECRETS if secret.encode() in clean]
    assert clean.count(b"\n") == CONSOLE.count("\n") + 1
    assert clean.endswith(b"\xff\x80 raw\r\n")
    assert b"/proc/pressure/memory" in clean
    assert dict(scrubber.counts) == {"command": 1, "path": 3, "name": 1}
    assert Scrubber(["pluto"]).log_file(clean) == clean, "twice is once"


@given(JSON)
def test_json_without_secrets_keeps_its_bytes(value: object) -> None:
    data = json.dumps(value, indent=3, separators=(" , ", " : ")).encode()
    clean = Scrubber().json_file(data)
    if Scrubber().value(value) == value:
        assert clean == data
    else:
        assert json.loads(clean) == Scrubber().value(value)


def test_only_the_lines_with_secrets_change() -> None:
    lines = [b'{"a" :  1}', b'{"error":"/home/alice/x: gone","n":1.50}', b"", b'{"b":"/dev/kvm"}']
    clean = Scrubber().json_lines(b"\n".join(lines)).split(b"\n")
    assert clean[1] == b'{"error":"<path>: gone","n":1.5}'
    assert [*clean[:1], *clean[2:]] == [*lines[:1], *lines[2:]]


def test_a_node_goes_with_its_domain_and_without() -> None:
    nodes = ["ice1.cs.example.org", "ice2.cs.example.org"]
    scrubber = Scrubber(["ice1.cs.example.org", "ice1", "someone"], nodes)
    assert scrubber.text("on ice1.cs.example.org: ice1 is full") == "on <node 1>: <node 1> is full"
    assert scrubber.text("(SLURM job 3 on ice2)") == "(SLURM job 3 on <node 2>)"
