# SPDX-License-Identifier: GPL-2.0-only
"""Every result table and every column, once: type, unit, meaning.

The analysis makes its tables by it, the report reads them by it; docs/data-dictionary.md and
datapackage.json are generated from it. A column is added here, and where its values are made.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from kdelta.pressure_counters import BY_COLUMN, PRESSURE_COUNTERS

Type = Literal["string", "integer", "number", "boolean"]

FACTOR = "<factor>"
"""Stands for one column per factor of the matrix, of any type, in the experiment's order."""
PARAMETER = "<parameter>"
"""Stands for one column per parameter of the workload that is the same in every cell."""
VALUE = "<value>"
"""Stands for one column per value and metric that the workload declares."""
RULE = "<rule>"
"""Stands for one column per validity rule that was broken, in alphabetical order."""

DISTURBANCE_RULES = ("host-load", "host-steal", "host-other-cpu", "guest-steal", "cpu-speed")
"""Validity rules that say that the host was disturbed."""


class Column(NamedTuple):
    """A column: what it is called, holds, is measured in and means.

    `missing` says that whole numbers and truths may be missing, which is not 0 or false.
    """

    name: str
    type: Type
    unit: str
    meaning: str
    missing: bool = False

    @property
    def placeholder(self) -> bool:
        """Whether it stands for several columns, which depend on the run."""
        return self.name.startswith("<")

    @property
    def dtype(self) -> str:
        """Its type in pandas."""
        match self.type:
            case "integer":
                return "Int64" if self.missing else "int64"
            case "boolean":
                return "boolean" if self.missing else "bool"
            case "number":
                return "float64"
        return "str"


class Table(NamedTuple):
    """A CSV file below a run's folder: what a row is, and its columns in order.

    `key` names the columns that identify a row; the factors are among them where `FACTOR` is.
    """

    path: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def dtypes(self) -> dict[str, str]:
        """Type in pandas by name, of the columns that every run has."""
        return {c.name: c.dtype for c in self.columns if not c.placeholder}

    @property
    def has_factors(self) -> bool:
        """Whether its rows are about cells."""
        return any(column.name == FACTOR for column in self.columns)


REGIME = Column("regime", "string", "", "condition of the guest, by its name")
ARM = Column("arm", "string", "", "the arm's name, or `control`")
BLOCK = Column("block", "integer", "", "number of the block, from 1")
NODE = Column("node", "string", "", "that measured the block; its processor in runs without names")
FACTORS = Column(FACTOR, "string", "", "one column per factor of the matrix: the cell's level")
PARAMETERS = Column(
    PARAMETER, "string", "", "one column per parameter that is the same in every cell: its value"
)
VALUES = Column(
    VALUE, "number", "", "one column per value and metric of the workload, as it declares them"
)
METRIC = (
    Column("metric", "string", "", "column of samples.csv that the row is about"),
    Column("unit", "string", "", "unit of the metric"),
    Column("direction", "string", "", "which way is better: higher or lower"),
)
VERDICT = Column(
    "verdict", "string", "", "faster, slower, equivalent, inconclusive or invalid; after Holm"
)
DELTA = (
    Column("delta_percent", "number", "%", "100 x (ratio - 1)"),
    Column("delta_low_percent", "number", "%", "lower end of the delta's interval"),
    Column("delta_high_percent", "number", "%", "upper end of the delta's interval"),
)
EFFECT = (
    Column("ratio", "number", "", "arm over baseline: geometric mean over blocks"),
    Column("ratio_low", "number", "", "lower end of the ratio's interval; empty below 3 blocks"),
    Column("ratio_high", "number", "", "upper end of the ratio's interval; empty below 3 blocks"),
    *DELTA,
    Column("confidence", "number", "", "of the interval, for example 0.95"),
    Column("p_value", "number", "", "two-sided t test of no change, on log ratios"),
    Column("p_holm", "number", "", "p_value adjusted by Holm over the family"),
    Column("p_sign_flip", "number", "", "sign-flip permutation test of no change"),
    VERDICT,
    Column(
        "blocks_to_settle",
        "integer",
        "",
        "blocks in all that would settle it; empty if settled",
        True,
    ),
)

_IDENTITY = (
    REGIME,
    BLOCK,
    ARM,
    Column("boot_order", "integer", "", "place of the arm's boot in its block, from 1"),
    Column("round", "integer", "", "round of the block, from 1"),
    Column("slot", "integer", "", "place of the arm among those that ran the cell, from 1", True),
    Column("cell_order", "integer", "", "which of its boot's slices it was, from 1"),
    FACTORS,
)
_MACHINE = (
    Column("acceleration", "string", "", "kvm, or tcg: emulated, not a measurement"),
    Column("vcpus", "integer", "", "virtual CPUs of the guest", True),
)
_GUEST = (
    NODE,
    *_MACHINE,
    Column("memory_mib", "integer", "MiB", "MemTotal that the guest sees", True),
    Column("status", "string", "", "ok or failed"),
)
_COUNTERS = (
    *(
        Column(
            counter.name,
            "integer",
            counter.unit,
            ("pressure stall: " if counter.unit == "us" else "") + counter.meaning,
            True,
        )
        for counter in PRESSURE_COUNTERS
    ),
    Column("steal_ticks", "integer", "USER_HZ ticks", "CPU time that a hypervisor took away", True),
    Column("speed_before", "number", "1e6/s", "steps per CPU second before it, mean over vCPUs"),
    Column("speed_after", "number", "1e6/s", "the same directly after the sample"),
    Column(
        "relative_speed",
        "number",
        "",
        "mean of the two over the 90th percentile of the regime's on the same node",
    ),
    Column("memcg", "boolean", "", "whether the workload ran in a child memory cgroup", True),
    Column("stressor_alive", "boolean", "", "at the sample's end; empty without a stressor", True),
    Column("valid", "boolean", "", "whether no validity rule is broken; else set aside"),
)

SAMPLES = Table(
    "samples.csv",
    "one slice: one cell in one boot in one round. Kernel counters are their growth over the "
    "slice; empty means that the kernel has no such counter, which is not 0",
    ("regime", "block", "arm", "round"),
    (*_IDENTITY, PARAMETERS, *_GUEST, VALUES, *_COUNTERS),
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

_BLOCKS = Column("blocks", "integer", "", "blocks that the row rests on")
_STATUS = "status"

_DELTAS = (
    REGIME,
    ARM,
    FACTORS,
    *METRIC,
    _BLOCKS,
    Column(
        "set_aside", "integer", "", "blocks planned and not used: a sample is invalid or missing"
    ),
    Column("baseline", "number", "as `unit`", "the baseline's geometric mean over these blocks"),
    Column("value", "number", "as `unit`", "the arm's: baseline x ratio"),
    *EFFECT,
)
_OVERALL = (
    REGIME,
    ARM,
    *METRIC,
    Column("cells", "integer", "", "cells with a pair; invalid if one has none"),
    _BLOCKS,
    Column("set_aside", "integer", "", "blocks of which no pair is left"),
    *EFFECT,
)
_CELL_KEY = ("regime", "arm", "metric")
_SET_ASIDE = (
    REGIME,
    ARM,
    Column("boots", "integer", "", "planned"),
    Column("boots_failed", "integer", "", "boots without a result"),
    Column("samples", "integer", "", "planned"),
    Column("set_aside", "integer", "", "samples that break a rule"),
    Column(RULE, "integer", "", "one column per rule that was broken: samples that break it"),
)
_DISTURBANCE = (
    REGIME,
    Column("boots", "integer", "", "planned"),
    Column(
        "boots_disturbed", "integer", "", "boots that break a rule on the host, or had slow CPUs"
    ),
    Column("samples", "integer", "", "planned"),
    Column("samples_disturbed", "integer", "", "samples that break a rule on the host"),
    Column("samples_run", "integer", "", "run, set aside or not"),
    Column("samples_checked", "integer", "", "run with a speed check before or after"),
    *(
        Column(f"boots_{rule.replace('-', '_')}", "integer", "", f"boots that break {rule}")
        for rule in DISTURBANCE_RULES
    ),
    Column("boots_slow", "integer", "", "boots with a sample of relative_speed below 0.8"),
    Column("other_cpu_highest", "number", "", "share of the host's CPUs, other programs, a boot"),
    Column("steal_highest", "number", "", "share of CPU time stolen, of a boot or a sample"),
    Column("relative_speed_lowest", "number", "", "lowest relative_speed of a sample"),
    Column(
        "speed_variance_share",
        "number",
        "",
        "share of the variance of log(value / baseline), throughput, that goes with the speeds",
    ),
    Column(
        "control_spread_percent",
        "number",
        "%",
        "standard deviation over blocks of the control's log ratio, throughput, pooled over cells",
    ),
    Column("times_quiet", "number", "", "the same as a multiple of a quiet host's"),
    Column("unexplained", "boolean", "", "whether that is more than a quiet host gives"),
)
_CONTROL = (
    REGIME,
    METRIC[0],
    Column("cells", "integer", "", "cells with an interval"),
    Column("blocks", "integer", "", "the fewest blocks of any of them"),
    Column("largest_delta_percent", "number", "%", "largest |delta| of the control arm"),
    Column("median_half_width_percent", "number", "%", "of the intervals, on the log scale"),
    Column(
        "noise_floor_percent", "number", "%", "smallest true effect found with 80 % probability"
    ),
    Column("false_verdicts", "integer", "", "cells of the control called faster or slower"),
    Column("differs", "boolean", "", "whether any of them was, or the regime as a whole"),
)
_POSITION = (
    REGIME,
    METRIC[0],
    Column("blocks", "integer", "", "with valid slices at two places or more"),
    Column(
        "position_percent", "number", "%", "change per place later among the arms that run a cell"
    ),
    Column("position_low_percent", "number", "%", "lower end of its interval"),
    Column("position_high_percent", "number", "%", "upper end of its interval"),
    Column("p_value", "number", "", "t test of no change, jackknife over blocks"),
    Column("p_holm", "number", "", "p_value adjusted over the regimes"),
    Column(
        "largest_bias_percent",
        "number",
        "%",
        "most that it moves any arm's delta in any cell, by the orders that were measured",
    ),
    Column("differs", "boolean", "", "whether p_holm is below 1 - confidence"),
)
_RATIOS = (
    REGIME,
    BLOCK,
    ARM,
    FACTORS,
    METRIC[0],
    Column("baseline", "number", "as the metric", "the baseline's value in this block"),
    Column("value", "number", "as the metric", "the arm's value in this block"),
    Column("speed_ratio", "number", "", "the arm's CPU speed over the baseline's; may be empty"),
    Column("ratio", "number", "", "value / baseline, less what goes with speed_ratio"),
    Column("rounds", "integer", "", "rounds that these are geometric means over"),
    NODE,
)
_NODES = (
    REGIME,
    ARM,
    NODE,
    Column("processor", "string", "", "of the node"),
    *_MACHINE,
    Column("cpu_speed", "number", "1e6/s", "steps per CPU second of the speed checks, mean"),
    METRIC[0],
    Column("baseline", "number", "as the metric", "of the node: geometric mean over its cells"),
    Column("blocks", "integer", "", "of the node, with a ratio"),
    Column("delta_percent", "number", "%", "effect on the node, over all cells"),
    Column(
        "delta_low_percent",
        "number",
        "%",
        "lower end of its interval; the intervals hold all nodes' effects at once",
    ),
    Column("delta_high_percent", "number", "%", "upper end of its interval"),
    Column("p_value", "number", "", "F test of equal effects on all nodes, the same in their rows"),
    Column("p_holm", "number", "", "p_value adjusted by Holm over arms and regimes"),
    Column("p_permutation", "number", "", "permutation test of equal effects"),
    Column(
        "visible_percent",
        "number",
        "%",
        "by how much one node must differ from all others to be found to with 80 % probability",
    ),
    Column("differ", "string", "", "yes, not seen or cannot be told; empty with one node"),
)
_LATENCY = (
    REGIME,
    ARM,
    FACTORS,
    Column("quantile", "number", "", "share of the writes that take at most latency_us"),
    Column("latency_us", "number", "us", "geometric mean over blocks; empty: too few writes"),
    _BLOCKS,
)
_PRESSURE = (
    REGIME,
    ARM,
    FACTORS,
    Column("samples", "integer", "", "run, set aside or not"),
    Column("with_direct_reclaim", "integer", "", "samples with pgscan_direct above 0", True),
    *(
        Column(counter.column, "integer", counter.unit, f"{counter.meaning}, sum", True)
        if counter.rare
        else Column(
            counter.column,
            "number",
            counter.rate_unit,
            ("of the time, " if counter.unit == "us" else "") + counter.meaning,
        )
        for counter in BY_COLUMN
    ),
)
_COUNTERS_MOVED = (
    REGIME,
    ARM,
    Column("counter", "string", "", "of the kernel: file below /proc and name"),
    Column("unit", "string", "", "of the rates"),
    _BLOCKS,
    Column("baseline", "number", "as `unit`", "growth per second of slices, mean over blocks"),
    Column("baseline_sd_percent", "number", "%", "its standard deviation over blocks"),
    Column("value", "number", "as `unit`", "the arm's"),
    Column("value_sd_percent", "number", "%", "its standard deviation over blocks"),
    Column("change_percent", "number", "%", "value over baseline, minus 1"),
    Column("p_value", "number", "", "t test of no change, paired by blocks"),
    Column("q_value", "number", "", "adjusted for the false discovery rate, over the arm's"),
    Column("moved", "boolean", "", "whether q_value is below 5 %"),
)
_EXPECTATIONS = (
    REGIME,
    ARM,
    Column("counter", "string", "", "column of samples.csv that the regime has to move"),
    Column("bound", "string", "", "at_least or at_most"),
    Column("limit", "integer", "as the counter", "bound of the growth over a sample"),
    Column("share_wanted", "number", "", "share of samples in which it has to hold"),
    Column("samples", "integer", "", "that were looked at"),
    Column("samples_met", "integer", "", "in which it held"),
    Column("share_met", "number", "", "samples_met / samples"),
    Column("met", "boolean", "", "whether the regime did what it had to"),
    Column("median", "number", "as the counter", "of the growth per sample"),
    Column("lowest", "number", "as the counter", "of the growth per sample"),
    Column("highest", "number", "as the counter", "of the growth per sample"),
)
_CLAIMS = (
    REGIME,
    ARM,
    *METRIC[:2],
    FACTORS,
    Column("claimed_baseline", "number", "as `unit`", "as published"),
    Column("claimed_value", "number", "as `unit`", "as published"),
    Column("claimed_delta_percent", "number", "%", "as published"),
    _BLOCKS,
    *DELTA,
    VERDICT,
    Column(
        _STATUS,
        "string",
        "",
        "reproduced, same direction, not settled, contradicted or not measured",
    ),
)
_NEGATIVE = (
    REGIME,
    ARM,
    FACTORS,
    *DELTA,
    VERDICT,
    Column(_STATUS, "string", "", "held, broken, not settled or invalid"),
    Column("reason", "string", "", "why there can be no effect"),
)
_MECHANISM = (
    REGIME,
    ARM,
    FACTORS,
    Column(_STATUS, "string", "", "ok or failed"),
    Column("writes", "integer", "", "traced from begin to end, allocation run", True),
    Column("pages_before_lock_per_write", "number", "pages", "allocated without pipe->mutex"),
    Column("pages_under_lock_per_write", "number", "pages", "allocated with pipe->mutex held"),
    Column("bulk_calls", "integer", "", "calls of the bulk allocator", True),
    Column("bulk_pages_requested_per_call", "number", "pages", "that a call asked for"),
    Column("bulk_pages_per_call", "number", "pages", "that a call got"),
    Column("reclaims_before_lock", "integer", "", "direct reclaims without pipe->mutex", True),
    Column("reclaims_under_lock", "integer", "", "direct reclaims with pipe->mutex held", True),
    Column("contention_writes", "integer", "", "writes of the contention run", True),
    Column("waits_per_write", "number", "", "waits for pipe->mutex"),
    Column("wait_us_per_write", "number", "us", "waited for pipe->mutex"),
    Column("wait_mean_us", "number", "us", "mean of a wait"),
    Column("wait_p50_us", "number", "us", "median of a wait"),
    Column("wait_p99_us", "number", "us", "99th percentile of a wait"),
    Column("wait_max_us", "number", "us", "longest wait"),
    Column("lost_events", "integer", "", "that the trace buffer lost, both runs", True),
)
_LOCKS = (
    REGIME,
    ARM,
    FACTORS,
    Column(_STATUS, "string", "", "ok or failed"),
    Column("lock", "string", "", "kind of lock; empty in a cell without a wait"),
    Column("caller", "string", "", "function of the kernel that wanted it"),
    Column("waits", "integer", "", "waits that ended", True),
    Column("waits_per_s", "number", "1/s", "of the traced time, all tasks of the workload"),
    Column("wait_mean_us", "number", "us", "mean of a wait"),
    Column("wait_max_us", "number", "us", "longest wait"),
    Column(
        "wait_us_per_operation",
        "number",
        "us",
        "waited per operation; empty where the workload counts none, or events were lost",
    ),
    Column(
        "wait_share", "number", "", "seconds waited per second; of several tasks it can exceed 1"
    ),
    Column("lost_events", "integer", "", "that the trace buffer lost", True),
    Column("reason", "string", "", "why it failed"),
)
_COSTS = (
    ARM,
    Column(
        "quantity",
        "string",
        "",
        "text, data or bss of vmlinux; image: the file that is booted; symbols: the sum of all, "
        "without the padding of sections; symbols_changed and stack_changed: symbols and "
        "functions' stack frames of another size than the baseline's; "
        "memory_used: MemTotal - MemAvailable once the guest is up, before anything runs in it",
    ),
    Column("unit", "string", "", "unit of the quantity"),
    Column("blocks", "integer", "", "that memory_used is a mean over", True),
    Column("baseline", "number", "as `unit`", "the baseline's"),
    Column("value", "number", "as `unit`", "the arm's"),
    Column("change", "number", "as `unit`", "value - baseline"),
    Column("change_low", "number", "as `unit`", "lower end of its interval; sizes have none"),
    Column("change_high", "number", "as `unit`", "upper end of its interval"),
    Column("change_percent", "number", "%", "value over baseline, minus 1"),
    Column("same_kernel", "boolean", "", "whether the arm boots the baseline's kernel"),
)
_SYMBOLS = (
    ARM,
    Column("kind", "string", "", "text, data, bss, or stack: bytes that a function reserves"),
    Column(
        "symbol",
        "string",
        "",
        "its name, the compiler's parts of it counted in; of stack use "
        "after its object and a colon",
    ),
    Column("baseline_bytes", "integer", "B", "empty: the baseline's kernel has none", True),
    Column("bytes", "integer", "B", "empty: the arm's kernel has none", True),
    Column("change_bytes", "integer", "B", "bytes - baseline_bytes, none being 0"),
)

TABLES = (
    SAMPLES,
    VALIDITY,
    Table("tables/deltas.csv", "the effect of an arm in a cell", _CELL_KEY, _DELTAS),
    Table("tables/overall.csv", "the effect of an arm in a whole regime", _CELL_KEY, _OVERALL),
    Table(
        "tables/deltas_all.csv",
        "as deltas.csv, with the samples that were set aside; no row if none was",
        _CELL_KEY,
        _DELTAS,
    ),
    Table(
        "tables/overall_all.csv",
        "as overall.csv, with the samples that were set aside; no row if none was",
        _CELL_KEY,
        _OVERALL,
    ),
    Table("tables/set_aside.csv", "what an arm lost in a regime", ("regime", "arm"), _SET_ASIDE),
    Table(
        "tables/disturbance.csv",
        "whether the host was quiet in a regime",
        ("regime",),
        _DISTURBANCE,
    ),
    Table(
        "tables/control.csv",
        "our own error in a regime, as the control arm shows it",
        ("regime", "metric"),
        _CONTROL,
    ),
    Table(
        "tables/position.csv",
        "the effect of the place at which an arm runs a cell in a regime",
        ("regime", "metric"),
        _POSITION,
    ),
    Table(
        "tables/nodes.csv",
        "the effect of an arm in a regime on one node, and what the node is",
        ("regime", "arm", "node"),
        _NODES,
    ),
    Table("tables/ratios.csv", "one block's ratio", ("block", *_CELL_KEY), _RATIOS),
    Table(
        "tables/latency.csv",
        "one quantile of an arm's write latencies in a cell",
        ("regime", "arm", "quantile"),
        _LATENCY,
    ),
    Table("tables/pressure.csv", "what memory pressure there was", ("regime", "arm"), _PRESSURE),
    Table(
        "tables/counters.csv",
        "a kernel counter of an arm beside the baseline's",
        ("regime", "arm", "counter"),
        _COUNTERS_MOVED,
    ),
    Table(
        "tables/expectations.csv",
        "one thing that a regime has to do to the kernel, and whether it did",
        ("regime", "arm", "counter", "bound"),
        _EXPECTATIONS,
    ),
    Table("tables/claims.csv", "a published delta beside ours", _CELL_KEY, _CLAIMS),
    Table(
        "tables/negative_controls.csv",
        "a cell that the series cannot change",
        ("regime", "arm"),
        _NEGATIVE,
    ),
    Table(
        "tables/mechanism.csv",
        "a traced cell: where pages are allocated, who waits for the lock",
        ("regime", "arm"),
        _MECHANISM,
    ),
    Table(
        "tables/locks.csv",
        "a lock of the kernel that tasks of a traced cell waited for, heaviest first",
        ("regime", "arm", "lock", "caller"),
        _LOCKS,
    ),
    Table("tables/costs.csv", "what an arm costs in one respect", ("arm", "quantity"), _COSTS),
    Table(
        "tables/symbols.csv",
        "a symbol or a function's stack frame that has another size than in the baseline's "
        "kernel; the 100 largest differences of an arm of each of the two",
        ("arm", "kind", "symbol"),
        _SYMBOLS,
    ),
)

BY_PATH = {table.path: table for table in TABLES}
RESULT_FILES = tuple(BY_PATH)
"""Path below a run's folder of every table, in the order in which they are told."""
COLUMN_NAMES = frozenset(name for table in TABLES for name in table.dtypes)
"""Names that no factor of a matrix can have."""
