# SPDX-License-Identifier: GPL-2.0-only
"""fio's JSON: reads and writes of one group of jobs, together."""

import json


def parse(text: str) -> dict[str, float]:
    """Bandwidth and mean latency over all reads and writes."""
    job = json.loads(text[text.index("{") :])["jobs"][0]
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"]]
    done = sum(side["total_ios"] for side in sides)
    return {
        "bandwidth_mib_s": sum(side["bw_bytes"] for side in sides) / 2**20,
        "latency_mean_ns": sum(s["lat_ns"]["mean"] * s["total_ios"] for s in sides) / done,
    }
