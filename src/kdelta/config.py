# SPDX-License-Identifier: GPL-2.0-only
"""The configuration of a run: which experiment, by which protocol, and its files."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.patch_files import patch_files
from kdelta.yaml_file import parse_model, read_yaml


class RunConfig(BaseModel):
    """`config/config.yaml`: which experiment, by which protocol."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    experiment: str = Field(
        default="config/experiments/pipe-prealloc.yaml",
        description="the experiment file, relative to the project's root",
    )
    protocol: str = Field(
        default="quick", description="one of the protocols that the experiment file defines"
    )
    budget: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]{0,3}(m|h)$",
        description="minutes or hours to measure, for example 30m: the protocol with as many "
        "blocks as fit",
    )
    results: str = Field(
        default="results", description="where runs write, relative to the project's root"
    )


def load_experiment(path: Path, root: Path | None = None) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the YAML file.
        root: the folder that patches and fragments are relative to; with it,
            their existence is checked too.

    Raises:
        KdeltaError: unreadable, not YAML, or not an experiment; the message
            names the file, every key at fault, its value and what was expected.
    """
    experiment = parse_model(Experiment, read_yaml(path), path, {"root": root})
    if root is not None:
        _require_files(experiment, root, path)
    return experiment


def _require_files(experiment: Experiment, root: Path, path: Path) -> None:
    _require_fragments("kernel.config", experiment.kernel.config.fragments, root, path)
    for name, arm in experiment.arms.items():
        try:
            patch_files(arm, root, experiment.kernel.source.series)
        except OSError as error:
            raise KdeltaError(
                f"{path}: arms.{name}.patches: no such patch: {error} (looked in {root})"
            ) from None
        _require_fragments(f"arms.{name}", arm.fragments, root, path)
    if experiment.claims and not (root / experiment.claims.file).is_file():
        raise KdeltaError(
            f"{path}: claims.file: no such file: {experiment.claims.file} (looked in {root})"
        )
    prose = experiment.mail.prose if experiment.mail else None
    if prose and not (root / prose).is_file():
        raise KdeltaError(f"{path}: mail.prose: no such file: {prose} (looked in {root})")


def _require_fragments(key: str, fragments: list[str], root: Path, path: Path) -> None:
    for fragment in fragments:
        try:
            found = (root / fragment).is_file()
        except OSError:  # a name too long, a folder that may not be read
            found = False
        if not found:
            raise KdeltaError(
                f"{path}: {key}.fragments: no such file: {fragment} (looked in {root})"
            )
