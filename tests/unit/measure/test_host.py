# SPDX-License-Identifier: GPL-2.0-only
"""Facts about the host."""

from __future__ import annotations

import json
import os

from kdelta.measure.host import (
    MAX_AUTO_VCPUS,
    cpu_model,
    first_line,
    guest_vcpus,
    host_cpus,
    host_facts,
    memory_total_mib,
)

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu hypervisor
"""


def test_the_processors_name() -> None:
    assert cpu_model(CPUINFO) == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert cpu_model("processor\t: 0\n") == os.uname().machine


def test_memory() -> None:
    assert memory_total_mib("MemTotal:       24689212 kB\nMemFree: 1 kB\n") == 24110
    assert memory_total_mib("") == 0


def test_vcpus() -> None:
    assert guest_vcpus("auto") == min(host_cpus(), MAX_AUTO_VCPUS)
    assert guest_vcpus(64) == 64


def test_first_line_of_a_program() -> None:
    assert first_line(["printf", "one\\ntwo\\n"]) == "one"
    assert first_line(["true"]) is None
    assert first_line(["/no/such/program"]) is None


def test_this_host_can_be_recorded() -> None:
    facts = host_facts()
    assert facts["cpus"] == host_cpus() >= 1
    assert facts["memory_mib"] > 0
    assert json.loads(json.dumps(facts)) == facts
