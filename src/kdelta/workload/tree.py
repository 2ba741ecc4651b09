# SPDX-License-Identifier: GPL-2.0-only
"""Workloads whose programs are of the kernel's tree: which they are, and of which tree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdelta.errors import KdeltaError
from kdelta.workload.chosen import Chosen
from kdelta.workload.declaration import Workload
from kdelta.workload.folder import FOLDER

if TYPE_CHECKING:  # known without either, while the workflow is planned
    from kdelta.experiment import Experiment
    from kdelta.kernel.source import SourceTree


def of_the_tree(experiment: Experiment) -> list[Chosen]:
    """Workloads whose programs are built from the kernel's tree."""
    chosen = experiment.workloads.values()
    return [one for one in chosen if one.declaration.program.tree is not None]


def trees_arm(experiment: Experiment) -> str | None:
    """The arm whose kernel source these programs are built from: the baseline, if it is built.

    One program for all arms; None where no workload's is of the tree.

    Raises:
        KdeltaError: no arm has a source.
    """
    wanted = of_the_tree(experiment)
    if not wanted:
        return None
    if not experiment.built_arms:
        raise KdeltaError(
            f"{FOLDER}/{wanted[0].program}: program.tree: it is built from a kernel's source, and "
            "every arm has an image; take another workload, or build one of the arms"
        )
    baseline = experiment.baseline
    return baseline if baseline in experiment.built_arms else experiment.built_arms[0]


def in_tree(name: str, workload: Workload, tree: SourceTree) -> Path:
    """What a workload's program is built from in a kernel's tree.

    Args:
        name: the workload's folder, for the message.
        workload: one whose program is of the tree.
        tree: the kernel's source.

    Returns:
        The C file, or the folder with a Makefile.

    Raises:
        KdeltaError: this kernel does not have it.
    """
    path = tree.path / str(workload.program.tree)
    wanted = path if workload.program.tree_file else path / "Makefile"
    if not wanted.is_file():
        raise KdeltaError(
            f"{FOLDER}/{name}: program.tree: {tree.title} has no {wanted.relative_to(tree.path)}; "
            "measure a kernel that has it (kernel.source), or take another workload"
        )
    return path
