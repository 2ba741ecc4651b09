# SPDX-License-Identifier: GPL-2.0-only
"""The facts of a made-up run that the tables do not hold."""

from __future__ import annotations

import itertools
from dataclasses import replace

from report_synthetic import Plan

from kdelta.report.context import Arm, Factor, Image, Regime, ReportContext
from tests.workloads import METRICS, PIPE_BENCH


def make_context(plan: Plan, **changes: object) -> ReportContext:
    """A context that fits the plan; any field can be replaced."""
    titles = {
        "idle": "No memory pressure",
        "memory-pressure": "Under memory pressure",
        "reclaim": "Direct reclaim",
        "memcg": "In a memory cgroup",
        "idle-memcg": "No memory pressure, in a memory cgroup",
    }
    units = {
        "write_bytes": Factor("write_bytes", "write size", "B"),
        "write_size": Factor("write_size", "write size", "bytes"),
        "nonblock": Factor("nonblock", "non-blocking writers", "", ("false", "true")),
        "processes": Factor("processes", "processes", "", ("false", "true")),
    }
    regimes = tuple(
        Regime(
            r,
            titles[r],
            "The guest runs the benchmark and nothing else."
            if r == "idle"
            else "stress-ng --vm 2 --vm-bytes 50% --vm-keep beside it.",
        )
        for r in plan.regimes
    )
    context = ReportContext(
        experiment="pipe-prealloc",
        title="fs/pipe: preallocate pages outside pipe->mutex",
        summary="Pages for a pipe write are allocated before the mutex is taken, so that an "
        "allocation that sleeps no longer stalls readers.",
        baseline=plan.baseline,
        arms=tuple(Arm(a, f"the kernel called {a}", a == plan.control) for a in plan.arms),
        factors=tuple(units.get(name, Factor(name, name)) for name in plan.matrix),
        row_factor=next(iter(plan.matrix)),
        column_factor=next(itertools.islice(plan.matrix, 1, None), None),
        regimes=regimes,
        traced_regimes=regimes,
        protocol="quick",
        blocks=plan.blocks,
        seconds_per_cell=dict.fromkeys(plan.regimes, 0.6),
        confidence=0.95,
        equivalence_margin=plan.margin,
        metrics=METRICS,
        phrases=(
            *(() if {"write_bytes", "write_size"} & set(plan.matrix) else ("64 KiB writes",)),
            "1 MiB pipe",
        ),
        distribution="write latency",
        workload_methods=tuple(PIPE_BENCH.methods.items()),
        acceleration="kvm",
        acceleration_reason="/dev/kvm boots the built kernel",
        vcpus=2,
        host_cpus=2,
        memory_mib=1024,
        environment={
            "Host CPU": "Example CPU @ 2.40 GHz",
            "Host kernel": "6.1.0-31-amd64",
            "QEMU": "7.2.15",
            "virtme-ng": "1.42",
        },
        provenance={
            "Source": "linux-source-6.12 6.12.117-1",
            "Source SHA-256": "3f" * 32,
            "Patch series SHA-256": "a7" * 32,
            "Compiler": "gcc (Debian 12.2.0-14+deb12u1) 12.2.0",
            "Seed": "20260515",
        },
        images=(
            Image("baseline", "baseline", ()),
            Image(
                "patched",
                "patched",
                (
                    "fs/pipe: bulk pre-allocate pages outside pipe->mutex",
                    "selftests/pipe: add pipe_bench microbenchmark",
                ),
            ),
        ),
        reproduce="make report EXPERIMENT=pipe-prealloc",
        generated_from="the raw files of run 20260515-1 (16 files, hashes in manifest.json)",
        claim_source="the cover letter of the series",
        claim_setup=(
            ("vCPUs", "16", "2"),
            ("acceleration", "KVM", "KVM"),
            ("kernel", "7.1-rc3 (e98d21c170b0)", "6.12.117"),
        ),
        environment_set=(("governor of CPU 0 and 1", "powersave", "performance"),),
        environment_not_set=(
            ("turbo", "/sys/devices/system/cpu/intel_pstate/no_turbo does not exist"),
            ("vCPU pinning", "the host has 1 physical core, the guest 2 vCPUs"),
        ),
    )
    return replace(context, **changes)
