# SPDX-License-Identifier: GPL-2.0-only
"""The data dictionary's part on samples: what was measured, and what was set aside."""

from __future__ import annotations

from kdelta.export.dictionary_types import ARM, BLOCK, FACTORS, REGIME, Column, Table

_IDENTITY = (
    REGIME,
    BLOCK,
    ARM,
    Column("variant", "string", "", "kernel image that the arm booted"),
    Column("boot_order", "integer", "", "place of the arm's boot in its block, from 1"),
    Column("round", "integer", "", "round of the block, from 1"),
    Column("slot", "integer", "", "place of the arm among those that ran the cell, from 1"),
    Column("cell_order", "integer", "", "which of its boot's slices it was, from 1"),
    FACTORS,
)
_WORKLOAD = (
    Column("write_size", "integer", "B", "size of one write"),
    Column("pipe_size", "integer", "B", "capacity of the pipe, as F_GETPIPE_SZ says"),
    Column("mode", "string", "", "threads or processes"),
    Column("nonblock", "boolean", "", "whether writers use O_NONBLOCK"),
    Column("acceleration", "string", "", "kvm, or tcg: emulated, not a measurement"),
    Column("vcpus", "integer", "", "virtual CPUs of the guest"),
    Column("memory_mib", "integer", "MiB", "MemTotal that the guest sees"),
    Column("status", "string", "", "ok or failed"),
)
_MEASURED = (
    Column("duration_requested_s", "number", "s", "measured window as asked for"),
    Column("elapsed_s", "number", "s", "measured window: mean over writers"),
    Column("writes", "integer", "", "writes in the measured window, all writers"),
    Column("bytes_written", "integer", "B", "in the measured window"),
    Column("throughput_mib_s", "number", "MiB/s", "bytes_written / elapsed_s / 2^20"),
    Column("latency_mean_ns", "number", "ns", "mean duration of a write"),
    Column("latency_p50_ns", "number", "ns", "median duration of a write"),
    Column("latency_p90_ns", "number", "ns", "90th percentile of a write's duration"),
    Column("latency_p99_ns", "number", "ns", "99th percentile of a write's duration"),
    Column("latency_p99_9_ns", "number", "ns", "99.9th percentile of a write's duration"),
    Column("latency_max_ns", "number", "ns", "longest write"),
    Column(
        "identity_error",
        "number",
        "",
        "writers x write_size / mean latency over throughput, minus 1; 0 in a closed loop",
    ),
    Column("voluntary_switches", "integer", "", "voluntary context switches of the workers"),
    Column("involuntary_switches", "integer", "", "involuntary context switches of the workers"),
    Column("user_s", "number", "s", "CPU time of the workers in user mode"),
    Column("system_s", "number", "s", "CPU time of the workers in the kernel"),
    Column("eagain", "integer", "", "writes that found the pipe full (non-blocking only)"),
    Column("short_writes", "integer", "", "writes that took fewer bytes than asked"),
)
_COUNTERS = (
    Column("pgscan_direct", "integer", "pages", "scanned in direct reclaim"),
    Column("pgsteal_direct", "integer", "pages", "reclaimed in direct reclaim"),
    Column("pgscan_kswapd", "integer", "pages", "scanned by kswapd"),
    Column("allocstall", "integer", "", "entries into direct reclaim, all zones"),
    Column("oom_kill", "integer", "", "processes that the OOM killer ended"),
    Column("pswpin", "integer", "pages", "swapped in"),
    Column("pswpout", "integer", "pages", "swapped out"),
    Column("psi_memory_some_us", "integer", "us", "pressure stall: some task waited for memory"),
    Column("psi_memory_full_us", "integer", "us", "pressure stall: all tasks waited for memory"),
    Column("psi_cpu_some_us", "integer", "us", "pressure stall: some task waited for a CPU"),
    Column("steal_ticks", "integer", "USER_HZ ticks", "CPU time that a hypervisor took away"),
    Column("speed_before", "number", "1e6/s", "steps per CPU second before it, mean over vCPUs"),
    Column("speed_after", "number", "1e6/s", "the same directly after the sample"),
    Column(
        "relative_speed",
        "number",
        "",
        "mean of the two over the 90th percentile of the regime's, same kind of host",
    ),
    Column("memcg", "boolean", "", "whether the workload ran in a child memory cgroup"),
    Column("stressor_alive", "boolean", "", "at the sample's end; empty without a stressor"),
    Column("valid", "boolean", "", "whether no validity rule is broken; else set aside"),
)

SAMPLES = Table(
    "samples.csv",
    "one slice: one cell in one boot in one round. Kernel counters are their growth over the "
    "slice; empty means that the kernel has no such counter, which is not 0",
    ("regime", "block", "arm", "round"),
    (*_IDENTITY, *_WORKLOAD, *_MEASURED, *_COUNTERS),
)

RUN_COLUMNS = (
    Column("run_id", "string", "", "of the run's manifest.json"),
    Column("experiment", "string", "", "name of the experiment"),
    Column("protocol", "string", "", "name of the protocol"),
    Column("regime_title", "string", "", "the regime in words"),
    Column("arm_title", "string", "", "the arm in words"),
)
"""What `kdelta export --format samples` puts before the columns of samples.csv."""

VALIDITY = Table(
    "validity.csv",
    "one sample and one rule that it breaks",
    ("regime", "block", "arm", "round", "rule"),
    (
        REGIME,
        BLOCK,
        ARM,
        FACTORS,
        Column("round", "integer", "", "round of the block, from 1"),
        Column("rule", "string", "", "name of the rule"),
        Column("value", "number", "", "what was found, in the rule's unit; may be empty"),
        Column("limit", "number", "", "what the rule allows; may be empty"),
        Column("detail", "string", "", "the same in words"),
    ),
)

TABLES = (SAMPLES, VALIDITY)
