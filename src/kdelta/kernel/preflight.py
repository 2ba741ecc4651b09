# SPDX-License-Identifier: GPL-2.0-only
"""Patches, fragments and bases tried before anything is built: a mistake in them costs seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdelta.arms import is_config_file
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.configure import read_base, read_fragments
from kdelta.kernel.patches import PatchFile, read_patches
from kdelta.kernel.patching import stage
from kdelta.kernel.source import SourceTree
from kdelta.patch_files import patch_files
from kdelta.per_kernel import Series
from kdelta.workload.folder import FOLDER


def read_inputs(
    experiment: Experiment, root: Path, name: str, series: Mapping[str, Series] | None = None
) -> dict[str, list[PatchFile]]:
    """Read every patch, fragment and base configuration that an experiment names.

    Args:
        experiment: checked by `config.load_experiment`.
        root: the folder that its files are relative to.
        name: of the experiment file, for messages.
        series: of the arms' kernels that the experiment does not tell, as far as they are known.

    Returns:
        Arm -> its patch files, in the order they apply.

    Raises:
        KdeltaError: a fragment has a line that is none, a base has no option, or a file is no
            patch or damaged.
    """
    found = {}
    if experiment.kernel:
        shared = experiment.kernel.config.fragments
        _read_fragments(f"{name}: kernel.config.fragments", shared, root)
        _read_base(f"{name}: kernel.config.base", experiment.kernel.config.base, root)
    for one in experiment.workloads.values():
        needed = [f"{FOLDER}/{one.program}/{file}" for file in one.declaration.fragments]
        _read_fragments(f"{FOLDER}/{one.program}: fragments", needed, root)
    for arm in experiment.built_arms:
        chosen = experiment.arms[arm]
        _read_fragments(f"{name}: arms.{arm}.fragments", chosen.fragments, root)
        _read_base(f"{name}: arms.{arm}.base", chosen.base, root)
        known = experiment.series_of(arm) or (series or {}).get(arm)
        try:
            found[arm] = read_patches(patch_files(chosen, root, known))
        except (FileNotFoundError, KdeltaError) as error:
            raise KdeltaError(f"{name}: arms.{arm}.patches: {error}") from None
        if chosen.patches and not any(file.commits for file in found[arm]):
            raise KdeltaError(
                f"{name}: arms.{arm}.patches: a cover letter and no patch; add the patches"
            )
    return found


def try_patches(
    patches: Mapping[str, Sequence[PatchFile]], sources: Mapping[str, SourceTree]
) -> None:
    """Apply every arm's patches to copies of the files that they touch.

    Args:
        patches: arm -> its patch files, from `read_inputs`.
        sources: arm -> its kernel, of those to be tried; only read.

    Raises:
        KdeltaError: one does not apply; the message says why and what helps.
    """
    for arm, source in sources.items():
        with tempfile.TemporaryDirectory(prefix="kdelta-try-") as folder:
            stage(source.path, Path(folder), patches[arm], arm, source.title)


def _read_fragments(key: str, fragments: Sequence[str], root: Path) -> None:
    try:
        read_fragments([root / fragment for fragment in fragments])
    except KdeltaError as error:
        raise KdeltaError(f"{key}: {error}") from None


def _read_base(key: str, base: str | None, root: Path) -> None:
    if base is None or not is_config_file(base):
        return
    try:
        read_base(root / base)
    except KdeltaError as error:
        raise KdeltaError(f"{key}: {error}") from None
