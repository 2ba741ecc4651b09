# SPDX-License-Identifier: GPL-2.0-only
"""The driver's plan: what it is told is what the experiment says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdelta.architecture import host_architecture
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest import speed
from kdelta.measure.arm import GuestSource, require_cpus
from kdelta.measure.plan import block_timeout_s, boot_plan
from kdelta.measure.schedule import block_schedule
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)
IMAGE = {"kernel_release": "6.12.9", "config_sha256": "ab" * 32, "key": "0123456789abcdef"}
CONDITIONS = {
    **{"sysctl": {}, "files": {}, "swap_bytes": 0, "memcg": False},
    **{"disk_bytes": 0, "modules_root": None},
}


def plan(regime: str, position: int = 0) -> dict[str, Any]:
    schedule = block_schedule(EXPERIMENT, regime, 2)
    return boot_plan(EXPERIMENT, "quick", schedule, position, IMAGE, "tcg", 3)


def test_the_plan_of_a_boot() -> None:
    schedule = block_schedule(EXPERIMENT, "idle", 2)
    for position, arm in enumerate(schedule.arms):
        made = plan("idle", position)
        assert made["identity"] == {
            "regime": "idle",
            "block": 2,
            "arm": arm,
            "boot_order": position + 1,
        }
        assert [cell["levels"] for cell in made["cells"]] == list(schedule.cells)
    assert made["expected"] == {
        "kernel_release": "6.12.9",
        "config_sha256": "ab" * 32,
        "build_id": None,
        "version_has": ["0123456789ab"],
        "vcpus": 3,
        "memory_mib": 256,
        "memory_controller": True,
        "memory_cgroups": 1,
        "workload_cgroup": "/",
        "swap_total_kib": 0,
        "disk_bytes": 0,
        "acceleration": "tcg",
        "page_kib": None,
        "machines": list(host_architecture().machines),
        "boot_parameters": [],
    }
    assert made["evidence"][-1]["mode"] == "tcg"
    assert made["stressor"] is None
    assert made["conditions"] == CONDITIONS
    assert made["mechanism"] is False
    assert made["speed_work"] == speed.WORK["tcg"]
    json.dumps(made)


def test_every_guest_has_the_disk_of_the_largest_cell() -> None:
    fio = {
        "matrix": {"where": ["disk", "tmpfs"], "rw": ["read"], "file_size": ["4M", "9000000"]},
        "arguments": {"jobs": 3},
    }
    experiment = Experiment.model_validate(SMALL | {"workloads": {"fio": fio}})
    schedule = block_schedule(experiment, "idle", 1)
    image = IMAGE | {"modules_root": "/somewhere"}
    made = boot_plan(experiment, "quick", schedule, 0, image, "tcg", 3)
    assert made["expected"]["disk_bytes"] == 26 * 2**20 >= 3 * 9_000_000
    assert made["conditions"]["disk_bytes"] == 26 * 2**20
    assert made["conditions"]["modules_root"] == "/somewhere"
    on_disk = {"--filename=/dev/vda" in cell["argv"]: cell["levels"] for cell in made["cells"]}
    assert (on_disk[True]["where"], on_disk[False]["where"]) == ("disk", "tmpfs")


def test_a_cells_arguments() -> None:
    cell = plan("idle")["cells"][0]
    program, *argv = cell["argv"]
    assert program.endswith("/pipe_bench")
    pairs = dict(zip(argv[::2], argv[1::2], strict=True))
    assert pairs == {
        "--write-size": "65536",
        "--pipe-size": "1048576",
        "--pin": "none",
        "--writers": str(cell["levels"]["writers"]),
        "--readers": str(cell["levels"]["readers"]),
        "--duration": "0.5",
        "--warmup": "0.1",
        "--timeout": "5.0",
        "--format": "json",
    }


def test_the_self_check_verifies_bytes_with_the_workloads_own_arguments() -> None:
    [check] = plan("idle")["self_checks"]
    argv = check["argv"]
    assert check["workload"] == "pipe_bench"
    assert "--verify" in argv
    assert argv[argv.index("--write-size") + 1] == "65536"
    assert argv.count("--writers") == 1
    assert "--format" in argv


def test_the_stressor_is_told_only_in_its_regime() -> None:
    assert plan("pressed")["stressor"] == {
        "command": ["sleep", "1000"],
        "settled_by": "memory",
        "settle_s": None,
        "settle_timeout_s": 60,
    }


def test_the_conditions_of_a_regime_and_what_the_gate_expects_of_them() -> None:
    regimes = SMALL["regimes"] | {
        "hard": {"title": "Hard", "memcg": True, "swap": "64M", "sysctl": {"vm.swappiness": 100}}
    }
    protocols = {"quick": {"blocks": 1, "duration_s": {"hard": 1}}}
    experiment = Experiment.model_validate(SMALL | {"regimes": regimes, "protocols": protocols})
    schedule = block_schedule(experiment, "hard", 1)
    made = boot_plan(experiment, "quick", schedule, 0, IMAGE, "tcg", 3)
    assert made["conditions"] == CONDITIONS | {
        "sysctl": {"vm.swappiness": 100},
        "swap_bytes": 64 * 2**20,
        "memcg": True,
    }
    assert made["expected"]["memory_cgroups"] == 2
    assert made["expected"]["workload_cgroup"] == "/kdelta"
    assert made["expected"]["swap_total_kib"] == 64 * 1024


def test_a_mechanism_boot_runs_the_cells_for_its_own_short_time() -> None:
    experiment = Experiment.model_validate(
        SMALL | {"mechanism": {"regimes": ["idle"], "duration_s": 0.25}}
    )
    schedule = block_schedule(experiment, "idle", 1)
    made = boot_plan(experiment, "quick", schedule, 0, IMAGE, "tcg", 3, mechanism=True)
    argv = made["cells"][0]["argv"]
    assert made["mechanism"] is True
    assert argv[argv.index("--duration") + 1] == "0.25"
    assert argv[argv.index("--warmup") + 1] == "0.0"
    assert block_timeout_s(experiment, "quick", "idle", 4, mechanism=True) > 4 * 20


def test_deadlines_leave_room_for_what_is_planned() -> None:
    # 0.5 s + 0.1 s + the workload's own five, and time to say that they were not enough
    assert plan("idle")["cells"][0]["deadline_s"] == pytest.approx(15.6)
    assert plan("idle")["silence_s"] > 15.6
    assert plan("pressed")["silence_s"] > 60
    idle = block_timeout_s(EXPERIMENT, "quick", "idle", 4)
    # No cell that keeps to its own deadline is lost to the sweep's, nor one whose checks hang.
    assert idle >= 4 * (15.6 + 2 * speed.DEADLINE_S)
    # the stressor's time to settle comes on top
    pressed = block_timeout_s(EXPERIMENT, "quick", "pressed", 4)
    assert pressed >= idle + 60


def test_memory_is_rounded_up_to_whole_mib() -> None:
    odd = SMALL | {"guest": SMALL["guest"] | {"memory": "8388609"}}
    assert Experiment.model_validate(odd).memory_mib() == 9
    assert EXPERIMENT.memory_mib() == 256


def test_workers_are_pinned_to_cpus_that_the_guest_has() -> None:
    """How many `auto` are is known on the host that measures; it is at most 16."""
    auto = SMALL | {"guest": SMALL["guest"] | {"vcpus": "auto"}}
    for pin, good in (("0", True), ("none", True), ("auto", True), ("0-15,16", False)):
        chosen = SMALL["workloads"]["pipe_bench"]
        pinned = chosen | {"arguments": chosen["arguments"] | {"pin": pin}}
        experiment = Experiment.model_validate(auto | {"workloads": {"pipe_bench": pinned}})
        source = GuestSource(experiment, "quick", Path(), Path(), {"mode": "tcg"})
        if good:
            require_cpus(source)
        else:
            with pytest.raises(
                KdeltaError, match=r"workloads.pipe_bench.arguments.pin: CPU 16 is none of the"
            ):
                require_cpus(source)


def test_an_arm_is_booted_as_it_says_and_known_by_what_is_known_of_it() -> None:
    arm = {
        "title": "otherwise",
        "boot_parameters": ["mitigations=off"],
        "sysctl": {"vm.swappiness": 1},
        "files": {"/sys/kernel/mm/transparent_hugepage/enabled": "never"},
        "memory": "512M",
    }
    experiment = Experiment.model_validate(SMALL | {"arms": SMALL["arms"] | {"other": arm}})
    schedule = block_schedule(experiment, "idle", 1)
    image = {"kernel_release": "6.1", "key": "k", "version_has": ["#1 SMP"], "build_id": "0d"}
    made = [
        boot_plan(experiment, "quick", schedule, schedule.arms.index(name), image, "tcg", 1)
        for name in ("other", "patched")
    ]
    expected, plain = (plan["expected"] for plan in made)
    assert expected["boot_parameters"] == ["mitigations=off"]
    assert (expected["memory_mib"], plain["memory_mib"]) == (512, 256)
    assert made[0]["conditions"]["sysctl"] == {"vm.swappiness": 1}
    assert made[0]["conditions"]["files"] == arm["files"]
    assert expected["config_sha256"] is None
    assert (expected["version_has"], expected["build_id"]) == (["#1 SMP"], "0d")
    words = "mitigations=off, vm.swappiness=1, never in /sys/kernel/mm/transparent_hugepage/enabled"
    assert experiment.arms["other"].booting_words == f"{words}, 512M of memory"
