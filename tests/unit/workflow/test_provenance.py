# SPDX-License-Identifier: GPL-2.0-only
"""The manifest of a run, and what analysis and report are told from it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.provenance import (
    block_folders,
    build_manifest,
    check_raw,
    checkout_state,
    distinct_hosts,
    raw_hashes,
    read_json,
)
from kdelta.run_context import analysis_settings, report_context
from kdelta.run_facts import host_differences, provenance_facts
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)
HOST: dict[str, Any] = {
    "schema": 1,
    "key": "k",
    "host": {
        "cpu_model": "a processor",
        "architecture": "x86_64",
        "cpus": 2,
        "memory_mib": 4096,
        "swap_mib": 0,
        "sockets": 1,
        "cores": 2,
        "threads_per_core": 1,
        "smt": False,
        "numa_nodes": 1,
        "turbo": None,
        "mitigations": {"meltdown": "Mitigation: PTI", "tsx_async_abort": "Not affected"},
        "kernel": "6.1",
        "system": "Debian",
        "governor": None,
        "hypervisor": None,
        "qemu": "QEMU 7.2",
        "virtme_ng": "1.42",
        "stress_ng": None,
        "python": "3.11",
    },
    "acceleration": {"mode": "tcg", "requested": "tcg", "reason": "asked for"},
    "vcpus": 3,
    "overcommitted": True,
    "memory_mib": 256,
    "environment": {
        "set": [{"what": "vCPU pinning", "from": "any", "to": "CPUs 0, 1"}],
        "not_set": [{"what": "turbo", "why": "not visible here"}],
    },
    "earlier_attempts": [{"at": "2026-01-01T00:00:00+00:00", "reason": "Kernel panic"}],
    "boots": [{"arm": "baseline"}],
}


def with_workload(**changes: Any) -> dict[str, Any]:
    chosen = SMALL["workloads"]["pipe_bench"] | changes
    return SMALL | {"workloads": {"pipe_bench": chosen}}


def image(arm: str) -> dict[str, Any]:
    patches = {"patched": [{"file": "a.patch", "sha256": "12" * 32, "subject": "fs/pipe: faster"}]}
    return {
        "kernel_release": "6.12.9",
        "key": arm * 3,
        "image_sha256": "ab" * 32,
        "source": {"package": "linux-source-6.12", "version": "6.12.9-1"},
        "compiler": "gcc 12.2",
        "patches": patches.get(arm, []),
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    base = tmp_path / "results" / "small"
    files: dict[str, Any] = {
        "acceleration.json": HOST["acceleration"],
        "programs/programs.json": {"pipe_bench": {"binary_sha256": "cd" * 32}},
        **{f"kernels/{name}/image.json": image(name) for name in EXPERIMENT.arms},
    }
    for regime in ("idle", "pressed"):
        for block in ("001", "002"):
            folder = f"quick/raw/{regime}/block-{block}"
            files[f"{folder}/host.json"] = HOST
            files[f"{folder}/schedule.json"] = {"block": int(block)}
            files[f"{folder}/patched.jsonl"] = {"record": "boot"}
            files[f"{folder}/patched.console.log"] = "booting"
            files[f"{folder}/patched.console.partial.jsonl"] = {}
    for name, content in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return base / "quick"


def test_the_manifest(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDELTA_ARGV", "snakemake --cores 2")
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    assert manifest["argv"] == "snakemake --cores 2"
    assert manifest["experiment"]["schema"] == 2
    assert Experiment.model_validate(manifest["experiment"]) == EXPERIMENT
    assert manifest["kernels"].keys() == EXPERIMENT.arms.keys()
    assert [(b["regime"], b["block"]) for b in manifest["blocks"]] == [
        (regime, f"block-00{n}") for regime in ("idle", "pressed") for n in (1, 2)
    ]
    assert len(manifest["hosts"]) == 1
    assert json.loads(json.dumps(manifest)) == manifest


def test_the_runs_identity_is_its_contents(run: Path) -> None:
    first = build_manifest(EXPERIMENT, "quick", run, run)["run_id"]
    assert build_manifest(EXPERIMENT, "quick", run, run)["run_id"] == first
    with (run / "raw/idle/block-001/patched.jsonl").open("a") as file:
        file.write("\n")
    assert build_manifest(EXPERIMENT, "quick", run, run)["run_id"] != first


def test_raw_files_are_hashed(run: Path) -> None:
    hashes = raw_hashes(run, sorted(run.glob("raw/*/block-*")))
    assert len(hashes) == 16
    name = "raw/idle/block-001/patched.jsonl"
    assert hashes[name] == hashlib.sha256((run / name).read_bytes()).hexdigest()
    assert not [path for path in hashes if "partial" in path]
    assert len([path for path in hashes if path.endswith(".console.log")]) == 4


@pytest.mark.parametrize("gone", ["regime", "block"])
def test_what_a_shorter_plan_left_behind_is_not_looked_at(run: Path, gone: str) -> None:
    """A regime, or the last block, that the protocol no longer has: measured, kept, unread."""
    protocol = EXPERIMENT.protocols["quick"]
    durations = {"idle": protocol.duration_s["idle"]}
    change = {"duration_s": durations} if gone == "regime" else {"blocks": 1}
    shorter = EXPERIMENT.model_copy(
        update={"protocols": {"quick": protocol.model_copy(update=change)}}
    )
    manifest = build_manifest(shorter, "quick", run, run)
    assert len(manifest["blocks"]) == 2
    assert check_raw(run, manifest) is None
    settings = analysis_settings(shorter, "quick", run)
    assert settings.other_regimes == (("pressed",) if gone == "regime" else ())


@pytest.mark.parametrize("name", ["patched.console.log", "host.json", "patched.jsonl"])
def test_a_raw_file_that_is_edited_or_gone_is_noticed(run: Path, name: str) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    assert check_raw(run, manifest) is None
    file = run / "raw/pressed/block-002" / name
    kept = file.read_text()
    file.write_text(kept + " ")
    with pytest.raises(KdeltaError, match=f"pressed/block-002/{name} is not the file that was"):
        check_raw(run, manifest)
    file.unlink()
    with pytest.raises(KdeltaError, match=f"pressed/block-002/{name} is missing: .* Put them back"):
        check_raw(run, manifest)
    file.write_text(kept)
    assert check_raw(run, manifest) is None


def test_a_raw_file_that_nobody_listed_is_noticed(run: Path) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    (run / "raw/idle/block-002/control.jsonl").write_text("{}")
    with pytest.raises(KdeltaError, match=r"control.jsonl is not in manifest.json: .* again with"):
        check_raw(run, manifest)
    (run / "raw/idle/block-002/control.jsonl").unlink()
    blocks = EXPERIMENT.protocols["quick"].blocks
    older = run / f"raw/idle/block-{blocks + 1:03d}"  # of a longer run, which is not read
    older.mkdir()
    (older / "host.json").write_text("{}")
    assert check_raw(run, manifest) is None


def test_an_earlier_versions_manifest_has_no_consoles_and_says_so(run: Path) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    hashes = manifest["raw_sha256"]
    manifest["raw_sha256"] = {k: v for k, v in hashes.items() if not k.endswith(".log")}
    assert "hashed no consoles: all 4 are there" in str(check_raw(run, manifest))
    (run / "raw/idle/block-001/patched.console.log").unlink()
    with pytest.raises(KdeltaError, match=r"idle/block-001/patched.console.log is missing"):
        check_raw(run, manifest)


def test_blocks_of_an_older_longer_run_are_left_out(run: Path) -> None:
    protocol = next(iter(EXPERIMENT.protocols))
    planned = block_folders(EXPERIMENT, protocol, run)
    assert planned
    first = planned[0]
    for number in (EXPERIMENT.protocols[protocol].blocks + 1, 999):
        shutil.copytree(first, first.with_name(f"block-{number:03d}"))
    assert block_folders(EXPERIMENT, protocol, run) == planned


def test_hosts_are_told_once() -> None:
    other = HOST | {"host": HOST["host"] | {"cpu_model": "another"}}
    assert [h["host"]["cpu_model"] for h in distinct_hosts([HOST, other, HOST])] == [
        "a processor",
        "another",
    ]


def test_an_unfinished_run(run: Path) -> None:
    (run.parent / "acceleration.json").unlink()
    with pytest.raises(KdeltaError, match=r"acceleration\.json: no such file; has the run finish"):
        build_manifest(EXPERIMENT, "quick", run, run)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(KdeltaError, match=r"record\.json: "):
        read_json(path)


def test_the_state_of_the_checkout(tmp_path: Path) -> None:
    assert checkout_state(tmp_path) == {}

    def git(*words: str) -> None:
        name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *name, "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    state = checkout_state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["changed"] is False
    (tmp_path / "file").write_text("2")
    assert checkout_state(tmp_path)["changed"] is True


def test_what_the_analysis_is_told() -> None:
    settings = analysis_settings(EXPERIMENT)
    assert settings.factors == ("writers", "readers")
    assert settings.arms == ("baseline", "patched", "other", "control")
    assert settings.control == "control"
    without = Experiment.model_validate(SMALL | {"control": False})
    assert analysis_settings(without).control is None


def test_what_the_report_is_told(run: Path) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    context = report_context(EXPERIMENT, "quick", manifest)
    assert (context.row_factor, context.column_factor) == ("writers", "readers")
    assert context.phrases == ("64 KiB writes", "1 MiB pipe")
    assert (context.vcpus, context.host_cpus, context.memory_mib) == (3, 2, 256)
    assert [arm.name for arm in context.arms if arm.is_control] == ["control"]
    assert context.environment["Guest"].endswith("(more vCPUs than the host has CPUs)")
    assert context.provenance["Run"] == manifest["run_id"]
    assert context.environment["Cores"] == "2 cores, 1 socket, 1 node, no SMT"
    assert context.environment["Turbo"] == "not visible"
    assert context.environment["Mitigations"] == "meltdown: Mitigation: PTI"


@pytest.mark.parametrize(
    ("counts", "changed", "words"),
    [
        ({"identity": 3, "layout": 1, "patched": 1}, 1, "; 1 object differs from the baseline's"),
        ({"config": 4, "unexplained": 1}, 5, "; 5 objects differ from the baseline's"),
        ({"identity": 3, "layout": 1}, 0, "; 0 objects differ from the baseline's"),
        (None, None, ""),  # an image of an earlier version
    ],
)
def test_how_many_objects_a_patch_changed(
    run: Path, counts: dict[str, int] | None, changed: int | None, words: str
) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    if counts is not None:
        manifest["kernels"]["patched"]["objects_differ"] = counts
    context = report_context(EXPERIMENT, "quick", manifest)
    known = {arm.name: arm.objects_changed for arm in context.images}
    assert (known["baseline"], known["patched"]) == (None, changed)
    assert context.provenance["Kernel patched"].endswith(f"image sha256 {'ab' * 8}{words}")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("my experiments/a.yaml", "--config 'experiment=my experiments/a.yaml' protocol=quick"),
        # A manifest of an earlier version.
        ("", f"--config experiment=config/experiments/{EXPERIMENT.name}.yaml protocol=quick"),
    ],
)
def test_the_command_names_the_experiment_s_file(run: Path, file: str, expected: str) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run, file)
    context = report_context(EXPERIMENT, "quick", manifest)
    assert context.reproduce == f"snakemake --cores all {expected}"


def test_what_was_set_on_the_hosts_is_told_once(run: Path) -> None:
    context = report_context(EXPERIMENT, "quick", build_manifest(EXPERIMENT, "quick", run, run))
    assert context.environment_set == (("vCPU pinning", "any", "CPUs 0, 1"),)
    assert context.environment_not_set == (("turbo", "not visible here"),)
    attempts = [(a.regime, a.block, a.reason) for a in context.earlier_attempts]
    assert attempts == [
        (regime, block, "Kernel panic") for regime in ("idle", "pressed") for block in (1, 2)
    ]


def test_what_guests_say_of_mitigations_is_told_of_each_arm_where_they_differ(run: Path) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    on, off = {"meltdown": "Mitigation: PTI", "mds": "Not affected"}, {"meltdown": "Vulnerable"}
    for block in manifest["blocks"]:
        block["boots"] = [{"arm": arm, "mitigations": on} for arm in ("baseline", "patched")]
    told = report_context(EXPERIMENT, "quick", manifest).environment
    assert told["Mitigations of the guest"] == "meltdown: Mitigation: PTI"
    for block in manifest["blocks"]:
        block["boots"][1]["mitigations"] = off
    told = report_context(EXPERIMENT, "quick", manifest).environment
    assert told["Mitigations of the guest, patched"] == "meltdown: Vulnerable"
    assert told["Mitigations of the guest, baseline"] == "meltdown: Mitigation: PTI"


@pytest.mark.parametrize(
    ("arch", "architecture", "acceleration"),
    [("x86_64", "x86_64", "tcg"), ("arm64", "arm64", "tcg (emulated on x86_64)")],
)
def test_the_set_up_is_the_guests(
    run: Path, arch: str, architecture: str, acceleration: str
) -> None:
    claims = {
        "file": "claims.csv",
        "source": "a mail",
        "arm": "patched",
        "setup": {"Architecture": "arm64", "Acceleration": "kvm"},
    }
    experiment = Experiment.model_validate(SMALL | {"claims": claims})
    manifest = build_manifest(experiment, "quick", run, run)
    manifest["acceleration"] = {"mode": "tcg", "reason": "asked for", "arch": arch}
    context = report_context(experiment, "quick", manifest)
    assert context.claim_setup == (
        ("Architecture", "arm64", architecture),
        ("Acceleration", "kvm", acceleration),
    )
    assert context.architecture == arch


def test_differences_from_the_published_set_up(run: Path) -> None:
    claims = {
        "file": "claims.csv",
        "source": "a mail",
        "arm": "patched",
        "setup": {"Architecture": "arm64", "vCPUs": "16", "Kernel": "6.1", "Moon": "full"},
    }
    experiment = Experiment.model_validate(SMALL | {"claims": claims})
    context = report_context(experiment, "quick", build_manifest(experiment, "quick", run, run))
    assert context.claim_source == "a mail"
    assert context.claim_setup == (
        ("Architecture", "arm64", "x86_64"),
        ("vCPUs", "16", "3"),
        ("Kernel", "6.1", "6.12.9"),
        ("Moon", "full", "not recorded"),
    )
    assert [v.patches for v in context.images if v.name == "patched"] == [("fs/pipe: faster",)]


@pytest.mark.parametrize(("size", "expected"), [("64K", "64 KiB writes"), ("1M", "1 MiB writes")])
def test_sizes_in_words(run: Path, size: str, expected: str) -> None:
    data = with_workload(arguments={"write_size": size})
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    context = report_context(Experiment.model_validate(data), "quick", manifest)
    assert context.phrases[0] == expected


def test_a_size_that_varies_is_none_of_the_runs(run: Path) -> None:
    fixed = {"arguments": {"writers": 1, "readers": 1}}
    matrix = {"write_size": [4096, "64K"], "nonblock": [True]}
    data = with_workload(**fixed, matrix=matrix)
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    context = report_context(Experiment.model_validate(data), "quick", manifest)
    assert context.phrases == ("1 MiB pipe",)
    assert [factor.levels for factor in context.factors] == [("4096", "64K"), ("true",)]


def test_hosts_that_differ() -> None:
    def record(cpus: int, governor: str, vcpus: int) -> dict[str, Any]:
        return {
            "host": {"cpus": cpus, "governor": governor, "mitigations": {"a": "x"}},
            "vcpus": vcpus,
            "overcommitted": False,
            "memory_mib": 512,
            "acceleration": {"mode": "kvm"},
        }

    one, other = record(8, "performance", 8), record(16, "performance", 16)
    blocks = [
        {"regime": "idle", "block": f"block-{n:03d}", "host": host}
        for n, host in ((1, 1), (2, 2), (3, 1))
    ]
    assert host_differences({"hosts": [one], "blocks": blocks}) == ()
    assert host_differences({"hosts": [one, other], "blocks": blocks}) == (
        "cpus: host 1: 8; host 2: 16.",
        "guest's vCPUs: host 1: 8; host 2: 16.",
        "Host 1 measured blocks idle 1, 3.",
        "Host 2 measured blocks idle 2.",
    )
    named = [block | {"node": f"n{block['block'][-1]}"} for block in blocks]
    assert host_differences({"hosts": [one, other], "blocks": named})[2:] == (
        "Host 1 (n1, n3) measured blocks idle 1, 3.",
        "Host 2 (n2) measured blocks idle 2.",
    )
    # manifests of earlier versions do not say where a block was measured
    old = [{k: v for k, v in block.items() if k != "host"} for block in blocks]
    assert len(host_differences({"hosts": [one, other], "blocks": old})) == 2


def test_arms_of_different_sources_and_compilers_are_told_apart(run: Path) -> None:
    manifest = build_manifest(EXPERIMENT, "quick", run, run)
    alike = provenance_facts(manifest)
    assert alike["Kernel source"] == "package linux-source-6.12, version 6.12.9-1"
    assert not [label for label in alike if label.startswith(("Kernel source,", "Compiler,"))]
    manifest["kernels"]["patched"] |= {"source": {"package": "linux-source-7.2"}, "compiler": "cc"}
    told = provenance_facts(manifest)
    assert told["Kernel source, patched"] == "package linux-source-7.2"
    assert (told["Compiler"], told["Compiler, patched"]) == ("gcc 12.2", "cc")
