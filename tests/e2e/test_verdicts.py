# SPDX-License-Identifier: GPL-2.0-only
"""Kernels of which we know what is wrong with them, really built and booted.

One is slower by a known time per write, one is the same code, one corrupts a byte of a
page now and then, one warns. The verdicts have to say so.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Project, copy_checkout, text_of
from .test_kernel import kernel_tree

DELAY_US = 10_000
ENTRY = "\tmutex_lock(&pipe->mutex);\n\n\tif (!pipe->readers) {\n\t\tsend_sig(SIGPIPE"
COPIED = "\t\t\tret += copied;\n\t\t\tbuf->len = copied;\n"
# Short writes, by which everything else in the guest lives, are left alone.
CHANGES = {
    "slower": (
        ENTRY,
        ENTRY.replace(
            "mutex);\n",
            "mutex);\n\tif (total_len >= 32768) {\n"
            f"\t\tu64 end = ktime_get_ns() + {DELAY_US * 1000};\n\n"
            "\t\twhile (ktime_get_ns() < end)\n\t\t\tcpu_relax();\n\t}\n",
            1,
        ),
    ),
    "same": (ENTRY, "\t/* A comment compiles to nothing. */\n" + ENTRY),
    "corrupting": (
        COPIED,
        "\t\t\tif (copied == PAGE_SIZE)\n"
        "\t\t\t\t*(unsigned char *)page_address(page) ^= 1;\n" + COPIED,
    ),
    "warning": (ENTRY, "\tWARN_ON_ONCE(total_len >= 32768);\n\n" + ENTRY),
}


def write_patch(project: Project, scratch: Path, name: str) -> str:
    """A patch of fs/pipe.c for one of the changes; its path below the project."""
    text = (kernel_tree(project) / "fs/pipe.c").read_text()
    old, new = CHANGES[name]
    assert text.count(old) == 1
    for folder, content in (("a", text), ("b", text.replace(old, new))):
        path = scratch / name / folder / "fs/pipe.c"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    diff = subprocess.run(
        ["diff", "-u", "a/fs/pipe.c", "b/fs/pipe.c"],
        cwd=scratch / name,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    (project.root / "patches" / f"{name}.patch").write_text(diff)
    return f"patches/{name}.patch"


@pytest.fixture(scope="module")
def run_dir(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all these kernels."""
    project = copy_checkout(tmp_path_factory.mktemp("verdicts"))
    scratch = tmp_path_factory.mktemp("patches")
    arms: dict[str, object] = {"baseline": {"title": "as it is"}}
    for name in CHANGES:
        patch = write_patch(finished, scratch, name)
        (project.root / patch).write_bytes((finished.root / patch).read_bytes())
        arms[name] = {"title": name, "patches": [patch]}
    project.write_experiment(
        {
            "arms": arms,
            "workloads": {"pipe_bench": {"matrix": {"writers": [1], "readers": [1, 5]}}},
            "control": False,  # `same` is one
            "regimes": {"idle": {"title": "idle"}},
            "protocols": {
                "smoke": {"blocks": 3, "rounds": 2, "warmup_s": 0.1, "duration_s": {"idle": 0.6}}
            },
        }
    )
    project.run_to_its_end(text_of())
    return project.run_dir


def verdicts(run_dir: Path, arm: str) -> set[str]:
    deltas = pd.read_csv(run_dir / "tables/deltas.csv")
    ours = deltas[(deltas["arm"] == arm) & (deltas["metric"] == "throughput_mib_s")]
    assert len(ours) == 2
    return set(ours["verdict"])


def rules(run_dir: Path, arm: str) -> set[str]:
    broken = pd.read_csv(run_dir / "validity.csv")
    return set(broken[broken["arm"] == arm]["rule"])


def test_a_slower_kernel_is_slower_by_what_it_waits(run_dir: Path) -> None:
    assert verdicts(run_dir, "slower") == {"slower"}
    samples = pd.read_csv(run_dir / "samples.csv")
    mean = samples[samples["valid"]].groupby(["arm", "readers"])["latency_mean_ns"].mean() / 1e3
    for readers in (1, 5):
        added = mean["slower", readers] - mean["baseline", readers]
        # The wait, and what the host's other work adds to it.
        assert 0.8 * DELAY_US < added < 2 * DELAY_US


def test_the_same_code_is_never_called_different(run_dir: Path) -> None:
    assert verdicts(run_dir, "same") <= {"equivalent", "inconclusive"}


def test_a_kernel_that_corrupts_a_byte_is_invalid(run_dir: Path) -> None:
    assert verdicts(run_dir, "corrupting") == {"invalid"}
    assert "self-check" in rules(run_dir, "corrupting")


def test_a_kernel_that_warns_is_invalid(run_dir: Path) -> None:
    assert verdicts(run_dir, "warning") == {"invalid"}
    assert rules(run_dir, "warning") == {"kernel-splat"}


def test_the_report_names_them_at_the_top(run_dir: Path) -> None:
    text = (run_dir / "report/tables.txt").read_text()
    head = text[: text.index("Throughput in")]
    assert "corrupting" in head
    assert "warning" in head
