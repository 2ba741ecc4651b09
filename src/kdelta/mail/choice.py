# SPDX-License-Identifier: GPL-2.0-only
"""What is mailed and by whom: arm, author's prose, the patches that were measured, the sender."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Mapping
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.patches import Author, PatchFile, read_patches
from kdelta.kernel.source import SourceTree
from kdelta.mail.settings import Mail
from kdelta.patch_files import patch_files

Json = dict[str, Any]
_PROSE_WIDTH = 72


def chosen_mail(experiment: Experiment, arm: str | None, name: str) -> Mail:
    """How the series is mailed: the experiment's `mail`, or what goes without saying.

    Args:
        experiment: the experiment.
        arm: overrides the experiment's.
        name: of the experiment file, for messages.

    Raises:
        KdeltaError: no arm is chosen and there are several, or it has no patches.
    """
    patched = [key for key, v in experiment.arms.items() if v.patches]
    patched = [key for key in patched if key != experiment.baseline]
    if arm is None and experiment.mail is None and len(patched) == 1:
        arm = patched[0]
    if arm is None and experiment.mail is None:
        raise KdeltaError(
            f"{name}: mail.arm: not given, and arms with patches are "
            f"{', '.join(patched) or '(none)'}; say which one is mailed"
        )
    if arm is not None and arm not in patched:
        raise KdeltaError(
            f"{name}: {arm!r} is not an arm with patches beside the baseline; these are "
            f"{', '.join(patched) or '(none)'}"
        )
    mail = experiment.mail or Mail(arm=arm or "", prose="-")
    return mail if arm is None else mail.model_copy(update={"arm": arm})


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


def require_measured(experiment: Experiment, manifest: Json) -> None:
    """See to it that a run is of all arms that the experiment has now.

    Raises:
        KdeltaError: an arm was added since.
    """
    late = [name for name in experiment.arms if name not in manifest["kernels"]]
    if late:
        raise KdeltaError(
            f"arm {', '.join(late)}: not in this run; the experiment was changed after it was "
            "measured: measure again"
        )


def measured_patches(
    experiment: Experiment, arm: str, root: Path, source: SourceTree, manifest: Json
) -> list[PatchFile]:
    """The arm's patches, if they are the ones that were measured, on that source.

    Args:
        experiment: the experiment.
        arm: whose patches.
        root: the folder that they are relative to.
        source: the kernel that they apply to.
        manifest: of the run.

    Raises:
        KdeltaError: a patch or the source is another than the run's.
    """
    image: Mapping[str, Any] = manifest["kernels"][arm]
    files = read_patches(patch_files(experiment.arms[arm], root, source.series))
    # A file of several commits is recorded with each.
    now = list(dict.fromkeys(file.sha256 for file in files if file.commits))
    then = list(dict.fromkeys(patch["sha256"] for patch in image["patches"]))
    if now != then:
        changed = [str(f.path) for f in files if f.commits and f.sha256 not in then]
        what = f"changed since: {', '.join(changed)}" if changed else "others, or in another order"
        raise KdeltaError(
            f"arm {arm}: its patches are not those that were measured ({what}); "
            "measure again, or put back the patches that were"
        )
    if image["source"]["id"] != source.id:
        raise KdeltaError(
            f"arm {arm}: measured on source {image['source']['id'][:12]}, but "
            f"kernels/source.json now names {source.id[:12]} ({source.title}); measure again"
        )
    return files


def sender_of(folder: Path) -> Author:
    """The identity that `git commit` would use in a folder.

    Raises:
        KdeltaError: git is not installed, or would have to guess.
    """
    # Without this setting git makes an address up, from the names of user and machine.
    arguments = ["-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"]
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=False
        )
    except OSError as error:
        raise KdeltaError(f"git cannot be started: {error.strerror}; install git") from None
    found = re.fullmatch(r"(.*) <(.*)> \d+ \S+", done.stdout.decode("utf-8", "replace").strip())
    if found is None:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        raise KdeltaError(
            f"git does not know who mails the series ({said}); author and Signed-off-by come "
            'from there. Set it: git config --global user.name "Your Name" && '
            "git config --global user.email you@example.org"
        )
    # As it arrives: a mail keeps no two blanks in a name.
    sender = Author(" ".join(found[1].split()), found[2])
    email = sender.email
    if not email.isascii() or "@" not in email or parseaddr(formataddr(sender))[1] != email:
        raise KdeltaError(
            f"git's user.email is {email!r}, which is no mail address; set it: "
            "git config --global user.email you@example.org"
        )
    return sender


def sender_or_nobody(folder: Path) -> str:
    """The sender in words, empty where there is none: for the workflow, which may not fail."""
    try:
        return str(sender_of(folder))
    except KdeltaError:
        return ""
