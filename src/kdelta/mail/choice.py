# SPDX-License-Identifier: GPL-2.0-only
"""What is mailed: the variant, its author's prose, and the very patches that were measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.patches import PatchFile, read_patches
from kdelta.kernel.source import SourceTree
from kdelta.mail.settings import Mail
from kdelta.patch_files import patch_files

Json = dict[str, Any]
_PROSE_WIDTH = 72


def chosen_mail(experiment: Experiment, variant: str | None, name: str) -> Mail:
    """How the series is mailed: the experiment's `mail`, or what goes without saying.

    Args:
        experiment: the experiment.
        variant: overrides the experiment's.
        name: of the experiment file, for messages.

    Raises:
        KdeltaError: no variant is chosen and there are several, or it has no patches.
    """
    patched = [key for key, v in experiment.variants.items() if v.patches]
    patched = [key for key in patched if key != experiment.baseline]
    if variant is None and experiment.mail is None and len(patched) == 1:
        variant = patched[0]
    if variant is None and experiment.mail is None:
        raise KdeltaError(
            f"{name}: mail.variant: not given, and variants with patches are "
            f"{', '.join(patched) or '(none)'}; say which one is mailed"
        )
    if variant is not None and variant not in patched:
        raise KdeltaError(
            f"{name}: {variant!r} is not a variant with patches beside the baseline; these are "
            f"{', '.join(patched) or '(none)'}"
        )
    mail = experiment.mail or Mail(variant=variant or "", prose="-")
    return mail if variant is None else mail.model_copy(update={"variant": variant})


def prose_of(experiment: Experiment, root: Path) -> str:
    """The author's prose: the experiment's file, or its summary where it names none.

    Raises:
        KdeltaError: there is neither, or the file cannot be read.
    """
    if experiment.mail is not None:
        return read_prose(root / experiment.mail.prose, experiment.mail.prose)
    if not experiment.summary.strip():
        raise KdeltaError(
            "mail.prose: a cover letter needs its author's own words, and the experiment has "
            "neither mail.prose (a text file) nor a summary"
        )
    return textwrap.fill(experiment.summary, _PROSE_WIDTH, break_long_words=False)


def require_measured(experiment: Experiment, manifest: Json) -> None:
    """See to it that a run is of all variants that the experiment has now.

    Raises:
        KdeltaError: a variant was added since.
    """
    late = [name for name in experiment.variants if name not in manifest["kernels"]]
    if late:
        raise KdeltaError(
            f"variant {', '.join(late)}: not in this run; the experiment was changed after it was "
            "measured: measure again"
        )


def measured_patches(
    experiment: Experiment, variant: str, root: Path, source: SourceTree, manifest: Json
) -> list[PatchFile]:
    """The variant's patches, if they are the ones that were measured, on that source.

    Args:
        experiment: the experiment.
        variant: whose patches.
        root: the folder that they are relative to.
        source: the kernel that they apply to.
        manifest: of the run.

    Raises:
        KdeltaError: a patch or the source is another than the run's.
    """
    image: Mapping[str, Any] = manifest["kernels"][variant]
    files = read_patches(patch_files(experiment.variants[variant], root, source.series))
    # A file of several commits is recorded with each.
    now = list(dict.fromkeys(file.sha256 for file in files if file.commits))
    then = list(dict.fromkeys(patch["sha256"] for patch in image["patches"]))
    if now != then:
        changed = [str(f.path) for f in files if f.commits and f.sha256 not in then]
        what = f"changed since: {', '.join(changed)}" if changed else "others, or in another order"
        raise KdeltaError(
            f"variant {variant}: its patches are not those that were measured ({what}); "
            "measure again, or put back the patches that were"
        )
    if image["source"]["id"] != source.id:
        raise KdeltaError(
            f"variant {variant}: measured on source {image['source']['id'][:12]}, but "
            f"kernels/source.json now names {source.id[:12]} ({source.title}); measure again"
        )
    return files


def read_prose(path: Path, name: str) -> str:
    """The author's prose, without blanks at its lines' ends.

    Args:
        path: the text file.
        name: what the experiment calls it, for messages.

    Raises:
        KdeltaError: missing, empty or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise KdeltaError(
            f"mail.prose: {name} cannot be read: {error.strerror}; write the series' why and how "
            "into that file, as plain text: results are put below it"
        ) from None
    except UnicodeDecodeError as error:
        raise KdeltaError(f"mail.prose: {name} is not UTF-8 (byte {error.start})") from None
    prose = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    if not prose:
        raise KdeltaError(f"mail.prose: {name} is empty; write the series' why and how into it")
    return prose
