# SPDX-License-Identifier: GPL-2.0-only
"""One run's folder as exports and comparisons read it: its manifest and its tables."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdelta.earlier_runs import declarations, upgraded
from kdelta.errors import KdeltaError
from kdelta.experiment import CONTROL_ARM, Experiment
from kdelta.provenance import MANIFEST, check_raw, read_json
from kdelta.workload.declaration import Workload
from kdelta.yaml_file import parse_model

if TYPE_CHECKING:
    import pandas as pd

Json = dict[str, Any]

_DEPTH = 3  # of a run's folder: raw/<regime>/<block>/<file>
_WANTED = "; name a folder results/<experiment>/<protocol> of a finished run"


@dataclass(frozen=True)
class RunFolder:
    """A finished run, or one workload of it. It may lie anywhere: nothing is taken from its path.

    Attributes:
        path: where its tables lie; the run's own folder, or the workload's below it.
        run: the run's own folder, with the manifest and the raw files.
    """

    path: Path
    manifest: Json
    experiment: Experiment
    run: Path

    @property
    def protocol(self) -> str:
        return str(self.manifest["protocol"])

    @property
    def run_id(self) -> str:
        return str(self.manifest["run_id"])

    @property
    def acceleration(self) -> str:
        """How its guests ran: kvm or tcg."""
        return str(self.manifest["acceleration"]["mode"])

    @property
    def emulated(self) -> bool:
        """Whether its numbers are no measurements of a kernel."""
        return self.acceleration != "kvm"

    @property
    def workload(self) -> Workload:
        """What was run."""
        return self.experiment.workload.declaration

    @property
    def factors(self) -> tuple[str, ...]:
        """The matrix's column names."""
        return tuple(self.experiment.matrix)

    @property
    def regimes(self) -> dict[str, str]:
        """Regime -> title, in display order."""
        chosen = self.experiment.protocol_regimes(self.protocol)
        return {name: regime.title for name, regime in chosen.items()}

    def arm_title(self, arm: str) -> str:
        """The arm in words."""
        title = self.experiment.arm(arm).title
        return f"{title}, again (A/A control)" if arm == CONTROL_ARM else title

    def check_raw(self) -> str | None:
        """See to it that the raw files, if they are here, are the measured ones.

        Returns:
            A note, if some of it cannot be proven.

        Raises:
            KdeltaError: they are not.
        """
        return check_raw(self.run, self.manifest) if (self.run / "raw").is_dir() else None

    def table(self, name: str) -> pd.DataFrame:
        """A result file as it is written: every field is text, an empty one too.

        Raises:
            KdeltaError: missing or unreadable.
        """
        # Takes a second to load, which `kdelta show` can do without.
        import pandas as pd

        path = self.path / name
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise KdeltaError(f"{path}: no such table; {how_to_analyse(self.path)}") from None
        except (OSError, ValueError) as error:
            raise KdeltaError(f"{path}: not readable as CSV: {error}") from None


def read_run(path: Path) -> RunFolder:
    """A run's folder.

    Raises:
        KdeltaError: it is none, or its manifest is of another version.
    """
    require_folder(path)
    file = path / MANIFEST
    if not file.is_file():
        raise KdeltaError(
            f"{path}: no run here ({MANIFEST} does not exist){other_runs(path) or _WANTED}"
        )
    manifest = read_json(file)
    missing = [
        key
        for key in ("run_id", "experiment", "protocol", "acceleration", "hosts")
        if key not in manifest
    ]
    if missing:
        raise KdeltaError(
            f"{file}: {missing[0]} is missing; it is of another version of kdelta, or no manifest"
        )
    experiment = parse_model(
        Experiment, upgraded(manifest["experiment"]), file, _declared(manifest, file)
    )
    if manifest["protocol"] not in experiment.protocols:
        raise KdeltaError(
            f"{file}: protocol: {manifest['protocol']!r} is not a protocol of its experiment; "
            f"it has {', '.join(experiment.protocols)}"
        )
    return RunFolder(path, manifest, experiment, path)


def read_one_workload(path: Path) -> RunFolder:
    """One workload of a run: of a run of one, or of the workload whose folder is named.

    Args:
        path: a run's folder, or the folder of a workload in it.

    Raises:
        KdeltaError: it is none, or a run of several; the message says which folders to name.
    """
    if not (path / MANIFEST).is_file() and (path.absolute().parent / MANIFEST).is_file():
        run = read_run(path.parent if path.name else path)
        if len(run.experiment.workloads) > 1 and path.name in run.experiment.workloads:
            return replace(run, path=path, experiment=run.experiment.of_workload(path.name))
    run = read_run(path)
    if len(run.experiment.workloads) > 1:
        names = ", ".join(str(path / name) for name in run.experiment.workloads)
        raise KdeltaError(f"{path}: a run of several workloads; name the folder of one: {names}")
    return run


def workload_runs(path: Path) -> list[RunFolder]:
    """Every workload of a run, or the one whose folder is named.

    Raises:
        KdeltaError: it is none.
    """
    if not (path / MANIFEST).is_file():
        return [read_one_workload(path)]
    run = read_run(path)
    return [
        replace(run, path=path / folder if folder else path, experiment=one)
        for folder, one in run.experiment.each_workload()
    ]


def _declared(manifest: Json, file: Path) -> dict[str, dict[str, Workload]]:
    """What the run's workloads were at its time; of runs that do not say, what they are here."""
    said = declarations(manifest)
    return {"workloads": {name: parse_model(Workload, text, file) for name, text in said.items()}}


def require_folder(path: Path) -> None:
    """See to it that there is a folder of that name.

    Raises:
        KdeltaError: there is none, or a file.
    """
    if path.is_dir():
        return
    if path.exists():
        raise KdeltaError(f"{path}: this is a file{other_runs(path) or _WANTED}")
    raise KdeltaError(f"{path}: no such folder; name one results/<experiment>/<protocol>")


def other_runs(path: Path) -> str:
    """What to name instead, if the path holds runs or lies in one; else nothing."""
    for depth in ("*", "*/*"):
        inside = sorted(found.parent for found in path.glob(f"{depth}/{MANIFEST}"))
        if inside:
            more = f" (or another of {len(inside)})" if len(inside) > 1 else ""
            return f"; it holds runs, name one: {inside[0]}{more}"
    for above in list(path.absolute().parents)[:_DEPTH]:
        if (above / MANIFEST).is_file():
            return f"; it lies in a run, name that: {os.path.relpath(above)}"
    return ""


def how_to_analyse(path: Path) -> str:
    """What to do about a run's folder without tables."""
    if (path / "raw").is_dir():
        return (
            f"{path} has raw data: make the tables with `kdelta analyse --experiment FILE "
            f"--raw {path / 'raw'} --output {path}`"
        )
    return "is the run finished?"
