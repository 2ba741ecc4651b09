# SPDX-License-Identifier: GPL-2.0-only
"""Who mails: the user's git identity."""

from __future__ import annotations

import subprocess
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import NamedTuple

from kdelta.errors import KdeltaError
from kdelta.kernel.patches import NOBODY


class Identity(NamedTuple):
    """A person, as git knows one."""

    name: str
    email: str

    def __str__(self) -> str:
        """As in a trailer of a commit: ``Name <mail>``, whatever the name is."""
        return f"{self.name} <{self.email}>"


# Stands for whoever mails a patch.
PLACEHOLDER = Identity(*NOBODY)


def git_identity(folder: Path) -> Identity:
    """The identity that `git commit` would use in a folder.

    Raises:
        KdeltaError: git is not installed, or `user.name` or `user.email` is not set.
    """
    name, email = (_setting(folder, key) for key in ("user.name", "user.email"))
    missing = [key for key, value in (("user.name", name), ("user.email", email)) if not value]
    if missing:
        examples = {"user.name": '"Your Name"', "user.email": "you@example.org"}
        commands = " && ".join(f"git config --global {key} {examples[key]}" for key in missing)
        raise KdeltaError(
            f"git does not know who mails the series: {' and '.join(missing)} not set; "
            f"author and Signed-off-by come from there. Set it: {commands}"
        )
    found = Identity(name, email)
    if not email.isascii() or "@" not in email or parseaddr(formataddr(found))[1] != email:
        raise KdeltaError(
            f"git's user.email is {email!r}, which is no mail address; set it: "
            "git config --global user.email you@example.org"
        )
    return found


def _setting(folder: Path, key: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "config", "--get", key], capture_output=True, check=False
        )
    except OSError as error:
        raise KdeltaError(f"git cannot be started: {error.strerror}; install git") from None
    return " ".join(done.stdout.decode("utf-8", "replace").split())


def identity_or_nobody(folder: Path) -> str:
    """The identity in words, empty where there is none: for the workflow, which may not fail."""
    try:
        return str(git_identity(folder))
    except KdeltaError:
        return ""
