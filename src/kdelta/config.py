# SPDX-License-Identifier: GPL-2.0-only
"""The configuration of a run: which experiment, by which protocol, and its files."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from kdelta.architecture import ArchitectureName
from kdelta.arms import is_config_file
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.patch_files import patch_files
from kdelta.yaml_file import FileModel, parse_model, read_yaml


class RunConfig(FileModel):
    """`config/config.yaml`: which experiment, by which protocol."""

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
    arch: ArchitectureName | None = Field(
        default=None,
        description="another architecture of the guests than the experiment's; the run is then "
        "called NAME-ARCH",
    )
    results: str = Field(
        default="results", description="where runs write, relative to the project's root"
    )


def load_experiment(path: Path, root: Path | None = None, arch: str | None = None) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the YAML file.
        root: the folder that patches and fragments are relative to; with it,
            their existence is checked too.
        arch: another architecture than the file's, as `of_architecture` takes it.

    Raises:
        KdeltaError: unreadable, not YAML, or not an experiment; the message
            names the file, every key at fault, its value and what was expected.
    """
    experiment = parse_model(Experiment, read_yaml(path), path, {"root": root})
    try:
        experiment = experiment.of_architecture(arch)
    except ValueError as error:
        raise KdeltaError(f"{path}: {error}") from None
    if root is not None:
        _require_files(experiment, root, path)
    return experiment


def _require_files(experiment: Experiment, root: Path, path: Path) -> None:
    if experiment.kernel:
        config = experiment.kernel.config
        _require_config("kernel.config", config.base, config.fragments, root, path)
    for name, arm in experiment.arms.items():
        try:
            patch_files(arm, root, experiment.series_of(name))
        except OSError as error:
            raise KdeltaError(
                f"{path}: arms.{name}.patches: no such patch: {error} (looked in {root})"
            ) from None
        _require_config(f"arms.{name}", arm.base, arm.fragments, root, path)
        if arm.image:
            _require_file(f"arms.{name}.image", arm.image, root, path)
    if experiment.claims:
        _require_file("claims.file", experiment.claims.file, root, path)
    if experiment.mail and experiment.mail.prose:
        _require_file("mail.prose", experiment.mail.prose, root, path)


def _require_config(
    key: str, base: str | None, fragments: list[str], root: Path, path: Path
) -> None:
    if base is not None and is_config_file(base):
        _require_file(f"{key}.base", base, root, path)
    for fragment in fragments:
        _require_file(f"{key}.fragments", fragment, root, path)


def _require_file(key: str, name: str, root: Path, path: Path) -> None:
    file = root / name
    try:
        found, folder = file.is_file(), file.is_dir()
    except OSError:  # a name too long, a folder that may not be read
        found = folder = False
    if folder:
        raise KdeltaError(f"{path}: {key}: a folder, and a file is needed: {name}")
    if not found:
        where = "" if Path(name).is_absolute() else f" (looked in {root.resolve()})"
        raise KdeltaError(f"{path}: {key}: no such file: {name}{where}")
