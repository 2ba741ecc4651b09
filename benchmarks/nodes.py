# SPDX-License-Identifier: GPL-2.0-only
"""Do intervals and tests keep their promises where blocks are measured on several nodes?

Draws experiments with known truth (the generator of the calibration tests): nodes that are alike,
that have other speeds, that are noisier, and on which the effect is another one. Each goes through
the package's own comparison of nodes and its cell and overall effects.

    PYTHONPATH=tests/unit/analysis .venv/bin/python benchmarks/nodes.py
"""

from __future__ import annotations

import argparse
import math

from simulation import NODE_WORLDS, calibrate_nodes
from synthetic import SETTINGS


def main() -> None:
    """Print a line per world."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    experiments = parser.parse_args().experiments
    error = 100 * math.sqrt(0.95 * 0.05 / experiments)
    print(f"{experiments} experiments a line, in per cent; standard error of a share {error:.1f}")
    print("called different between nodes: patched, the control; overall intervals that hold the")
    print("mean effect on the measured nodes, their width, the same if nodes were not looked at;")
    print("those over all nodes that hold the effect on every one; A/A with any cell different")
    heads = ("patched", "control", "mean", "width", "blind", "every", "A/A")
    print(f"{'world':<38}" + "".join(f"{head:>9}" for head in heads))
    for name, world in NODE_WORLDS.items():
        one = calibrate_nodes(world, SETTINGS, experiments, seed=41)
        found = (one.patched, one.control, one.mean, one.width, one.pooled, one.every, one.false)
        print(f"{name:<38}" + "".join(f"{100 * x:>9.1f}" for x in found), flush=True)


if __name__ == "__main__":
    main()
