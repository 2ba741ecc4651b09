# SPDX-License-Identifier: GPL-2.0-only
"""What pipe_bench measures: real runs on the host, against what its figures must satisfy."""

import json
import math
import os
import random
from itertools import pairwise

import pytest

KEYS = """
program version writers readers write_size read_size pipe_size mode nonblock pin verify
duration_requested_s warmup_s elapsed_s writes bytes_written bytes_written_total bytes_read_total
throughput_mib_s write_latency_ns histogram context_switches cpu_s eagain short_writes
payload_errors
"""
MIB = 2**20


def nearest_rank(histogram, per_mille, least, most):
    """The percentile of a [lower, upper, count] histogram: the bucket's middle, within min..max."""
    rank = math.ceil(sum(count for *_, count in histogram) * per_mille / 1000)
    for lower, upper, count in histogram:
        rank -= count
        if rank <= 0:
            return min(max(lower + (upper - lower - 1) // 2, least), most)
    raise AssertionError("empty histogram")


def check(found):
    """Asserts all that holds for every cell, whatever was measured."""
    latency, histogram = found["write_latency_ns"], found["histogram"]
    assert sum(count for *_, count in histogram) == found["writes"] > 0
    assert found["bytes_written"] == found["writes"] * found["write_size"]
    assert found["bytes_written_total"] == found["bytes_read_total"] >= found["bytes_written"]
    assert found["bytes_written_total"] % found["write_size"] == 0
    for lower, upper, count in histogram:
        assert count > 0
        assert upper == lower + 1 or (upper - lower) * 100 <= lower
    for (_, upper, _), (lower, _, _) in pairwise(histogram):
        assert upper <= lower
    assert histogram[0][0] <= latency["min"] < histogram[0][1]
    assert histogram[-1][0] <= latency["max"] < histogram[-1][1]
    for name, per_mille in {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999}.items():
        bounds = latency["min"], latency["max"]
        assert latency[name] == nearest_rank(histogram, per_mille, *bounds), name
    low = sum(lower * count for lower, _, count in histogram) / found["writes"]
    high = sum(upper * count for _, upper, count in histogram) / found["writes"]
    assert low - 0.1 <= latency["mean"] <= high + 0.1
    assert found["payload_errors"] == 0


@pytest.mark.parametrize("mode", [[], ["--processes"]], ids=["threads", "processes"])
@pytest.mark.parametrize(("writers", "readers"), [(1, 1), (2, 5), (5, 10)])
def test_cell(cell, mode, writers, readers):
    found = cell("--writers", str(writers), "--readers", str(readers), *mode, "--duration", "0.5")
    check(found)
    assert list(found) == KEYS.split()
    assert (found["writers"], found["readers"]) == (writers, readers)
    assert found["mode"] == ("processes" if mode else "threads")
    assert (found["write_size"], found["read_size"], found["pipe_size"]) == (65536, 65536, MIB)
    assert (found["duration_requested_s"], found["warmup_s"]) == (0.5, 0.05)
    assert (found["nonblock"], found["pin"], found["verify"]) == (False, "none", False)
    assert (found["eagain"], found["short_writes"]) == (0, 0)


@pytest.mark.parametrize("mode", ["--processes", "--verify"])
def test_throughput_and_latency_agree(cell, mode):
    """Closed loop: writers * write size / mean latency is the throughput.

    On an overloaded host a writer may not get the CPU for a good part of a window this short:
    one run of three is enough, as a wrong clock or sum would spoil them all.
    """
    errors = []
    while len(errors) < 3:
        found = cell("--writers", "2", "--readers", "2", "--duration", "0.5", mode)
        mean_s = found["write_latency_ns"]["mean"] / 1e9
        from_latency = found["writers"] * found["write_size"] / mean_s / MIB
        errors.append(abs(from_latency / found["throughput_mib_s"] - 1))
        if errors[-1] <= 0.03:
            return
    pytest.fail(f"relative errors of {errors}")


@pytest.mark.parametrize("writers", ["1", "3"])
def test_throughput_divides_by_measured_time(cell, writers):
    found = cell("--duration", "0.25", "--writers", writers)
    rate = found["bytes_written"] / found["elapsed_s"] / MIB
    assert found["throughput_mib_s"] == pytest.approx(rate, rel=1e-6)
    # The latencies fill the window: had it been the nominal one, a long last write would not fit
    total_s = found["writes"] * found["write_latency_ns"]["mean"] / 1e9
    assert total_s <= found["elapsed_s"] * int(writers) * (1 + 1e-6)
    assert found["elapsed_s"] != found["duration_requested_s"]


def test_window_ends_with_a_write_that_outlives_the_duration(faulty):
    """The last write began before the stop: it counts, and so does the second it takes."""
    done = faulty("slow-writes", "--format", "json", "--duration", "0.5", "--warmup", "0")
    found = json.loads(done.stdout)
    check(found)
    assert found["writes"] == 1
    assert 1 <= found["elapsed_s"] <= 10
    rate = found["write_size"] / found["elapsed_s"] / MIB
    assert found["throughput_mib_s"] == pytest.approx(rate, rel=1e-6)
    assert found["write_latency_ns"]["max"] == pytest.approx(found["elapsed_s"] * 1e9, rel=1e-6)


@pytest.mark.parametrize(
    ("write_size", "read_size", "expected"),
    [
        ("1", "1", (1, 1)),
        ("100", "4096", (100, 4096)),
        ("4097", "7", (4097, 7)),
        ("128K", "1M", (131072, 1048576)),
    ],
)
def test_sizes(cell, write_size, read_size, expected):
    found = cell("--write-size", write_size, "--read-size", read_size, "--verify")
    check(found)
    assert (found["write_size"], found["read_size"]) == expected


def test_read_size_follows_the_write_size(cell):
    assert cell("--write-size", "8K")["read_size"] == 8192


def test_nonblocking_writers_meet_a_full_pipe(cell):
    found = cell("--nonblock", "--pipe-size", "4096", "--writers", "2", "--verify")
    check(found)
    assert found["nonblock"] is True
    assert found["eagain"] > 0
    assert found["short_writes"] > 0


@pytest.mark.parametrize("mode", [[], ["--processes"]], ids=["threads", "processes"])
def test_payload_verified_whatever_the_split(cell, mode):
    found = cell("--verify", "--writers", "3", "--readers", "3", "--read-size", "1001", *mode)
    check(found)
    assert found["verify"] is True


def test_context_switches_and_cpu_time(cell):
    """A pipe of one page and writes of 16 makes either side sleep, and copying takes CPU time."""
    found = cell(
        "--pipe-size", "4096", "--duration", "0.5", "--pin", str(min(os.sched_getaffinity(0)))
    )
    switches = found["context_switches"]
    assert switches["voluntary"] + switches["involuntary"] >= found["writes"]
    busy = found["cpu_s"]["user"] + found["cpu_s"]["system"]
    assert 0 < busy <= 2 * found["elapsed_s"]


def test_pinned_to_one_cpu_uses_one_cpu(cell):
    """The list comes back as it was given."""
    cpu = max(os.sched_getaffinity(0))
    found = cell("--pin", f"{cpu},{cpu}-{cpu}", "--readers", "3", "--duration", "0.5")
    assert found["pin"] == f"{cpu},{cpu}-{cpu}"
    # Ticks are a few ms: allow the slack of one per worker
    assert sum(found["cpu_s"].values()) <= found["elapsed_s"] * 1.05 + 0.05
    assert cell("--pin", "auto")["pin"] == "auto"


def test_sweep_is_the_product_in_order(bench):
    done = bench(
        *("--format", "json", "--duration", "0.5", "--warmup", "0"),
        *("--writers", "1-2,5", "--readers", "10,1"),
    )
    cells = [json.loads(line) for line in done.stdout.splitlines()]
    order = [(found["writers"], found["readers"]) for found in cells]
    assert order == [(1, 10), (1, 1), (2, 10), (2, 1), (5, 10), (5, 1)]
    assert done.returncode == 0


def test_default_sweep_is_the_cover_letters(bench):
    done = bench("--duration", "0.5", "--warmup", "0")
    comments = [line for line in done.stdout.splitlines() if line.startswith("#")]
    heading, *rows = [line.split() for line in done.stdout.splitlines() if line not in comments]
    assert "65536-byte writes" in comments[0]
    assert "1048576-byte pipe" in comments[0]
    assert " ".join(heading[:9]) == "writers readers MiB/s mean p50 p90 p99 p99.9 max"
    assert [row[:2] for row in rows] == [[w, r] for w in "125" for r in ("1", "5", "10")]
    for row in rows:
        assert all(float(word) >= 0 for word in row)
        assert len(row) == len(heading)


@pytest.mark.parametrize("how", ["--format", "kselftest_timeout", "KSFT_TAP_LEVEL"])
def test_ktap(bench, how):
    cells = ["--writers", "1,2", "--readers", "1", "--duration", "0.3"]
    if how == "--format":
        done = bench(*cells, "--format", "ktap")
    else:
        done = bench(*cells, env={how: "45"})
    lines = done.stdout.splitlines()
    assert lines[:2] == ["KTAP version 1", "1..2"]
    results = [line for line in lines[2:] if not line.startswith("# ")]
    assert [line.split(" # ")[0] for line in results] == [
        "ok 1 writers=1 readers=1",
        "ok 2 writers=2 readers=1",
    ]
    assert done.returncode == 0


def test_bucket_of_any_value(buckets):
    values = list(range(70_000))
    values += [2**power + delta for power in range(1, 64) for delta in (-1, 0, 1)]
    values += [random.Random(1).getrandbits(64) for _ in range(10_000)]
    for value, (_, lower, width) in zip(values, buckets(values), strict=True):
        assert lower <= value < lower + width
        assert width == 1 or width * 128 <= lower


def test_buckets_are_contiguous(buckets):
    """From the end of a bucket the next one begins, up to the largest of all."""
    steps = [(128 + sub) << shift for shift in range(57) for sub in range(128)]
    found = buckets(list(range(128)) + steps)
    assert [index for index, *_ in found] == list(range(len(found)))
    for (_, lower, width), (_, following, _) in pairwise(found):
        assert lower + width == following
