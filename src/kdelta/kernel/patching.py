# SPDX-License-Identifier: GPL-2.0-only
"""Patches: what they touch, applying them, and saying which hunk did not apply."""

from __future__ import annotations

import email
import email.policy
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.process import clean_environment

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_DIFF_GIT = re.compile(
    r'diff --git (?:"a/(?P<qa>.*?)"|a/(?P<a>.*?)) (?:"b/(?P<qb>.*)"|b/(?P<b>.*))'
)
_FAILED = re.compile(r"^error: patch failed: (?P<file>.*):(?P<line>\d+)$", re.MULTILINE)
_SUBJECT_TAG = re.compile(r"^\[[^]]*\]\s*")
_DEV_NULL = "/dev/null"


@dataclass
class FileDiff:
    """What a patch does to one file.

    Attributes:
        paths: the names the file has before and after, without ``a/`` and ``b/``.
        hunks: start line in the old file, and header line, of every hunk.
    """

    paths: set[str] = field(default_factory=set)
    hunks: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Patch:
    """One patch file, read once."""

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: Path) -> Patch:
        """Read a patch file.

        Raises:
            KdeltaError: it cannot be read.
        """
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise KdeltaError(f"{path}: the patch cannot be read: {error.strerror}") from None

    @property
    def sha256(self) -> str:
        """Of the file, as `sha256sum` prints it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> str:
        """The patch as text; bytes that are not UTF-8 survive as surrogates."""
        return self.content.decode("utf-8", errors="surrogateescape")

    @property
    def subject(self) -> str:
        """Its mail subject without ``[PATCH 1/2]``, or the file's name if it has none."""
        return mail_subject(self.text) or self.path.name


def mail_subject(text: str) -> str | None:
    """The subject of a patch in mail form, unfolded, decoded, without its tag."""
    header = text.split("\n\n", 1)[0]
    if re.search(r"^Subject:", header, re.MULTILINE | re.IGNORECASE) is None:
        return None
    # surrogates would not survive the header parser's encoding
    clean = header.encode("utf-8", errors="replace").decode()
    message = email.message_from_string(clean, policy=email.policy.default)
    subject = " ".join(str(message["Subject"] or "").split())
    return _SUBJECT_TAG.sub("", subject) or None


def parse_diff(text: str) -> list[FileDiff]:
    """The files and hunks of a unified diff, mail text around it skipped.

    Lines inside a hunk are counted, so that a removed line that looks like a
    file header is not taken for one.
    """
    files: list[FileDiff] = []
    old_left = new_left = 0
    headed = False  # the current file's paths come from a `diff --git` line
    for line in text.split("\n"):
        if old_left > 0 or new_left > 0:
            kind = line[:1]
            if kind in (" ", ""):  # some mailers strip the blank of an empty context line
                old_left, new_left = old_left - 1, new_left - 1
            elif kind == "-":
                old_left -= 1
            elif kind == "+":
                new_left -= 1
            elif kind != "\\":  # anything else: the hunk is cut short
                old_left = new_left = 0
            if kind in (" ", "", "-", "+", "\\"):
                continue
        if (git := _DIFF_GIT.fullmatch(line)) is not None:
            files.append(FileDiff({git["qa"] or git["a"] or "", git["qb"] or git["b"] or ""}))
            headed = True
        elif line.startswith("--- ") and (name := _header_path(line)) is not None:
            if not headed:
                files.append(FileDiff())
            headed = False
            files[-1].paths |= {name} - {_DEV_NULL}
        elif line.startswith("+++ ") and files and (name := _header_path(line)) is not None:
            files[-1].paths |= {name} - {_DEV_NULL}
        elif files and (hunk := _HUNK.match(line)) is not None:
            files[-1].hunks.append((int(hunk[1]), line))
            old_left, new_left = int(hunk[2] or 1), int(hunk[4] or 1)
    return files


def _header_path(line: str) -> str | None:
    """The path in a ``--- a/x`` or ``+++ b/x`` line; None if it is not such a line."""
    name = line[4:].split("\t", 1)[0].strip()
    if name == _DEV_NULL:
        return name
    name = name.strip('"')
    _, slash, rest = name.partition("/")
    return rest if slash and rest else None


def touched_paths(text: str) -> set[str]:
    """Every path that a patch reads or writes, relative to the kernel tree."""
    return {path for file in parse_diff(text) for path in file.paths if path}


def explain_failure(patch_text: str, stderr: str) -> str:
    """Say in one line what `git apply` could not apply.

    Args:
        patch_text: the patch.
        stderr: what `git apply` printed, in the C locale.

    Returns:
        Source file, hunk number and hunk header; or git's own words where it
        was not a hunk that failed.
    """
    failed = _FAILED.search(stderr)
    if failed is None:
        lines = [line.removeprefix("error: ") for line in stderr.splitlines() if line.strip()]
        return lines[0] if lines else "git apply failed without a message"
    source, line = failed["file"], int(failed["line"])
    # A file may come twice in one patch; git counts from the first that has this line.
    for file in parse_diff(patch_text):
        if source not in file.paths:
            continue
        for number, (start, header) in enumerate(file.hunks, start=1):
            if start == line:
                return f"{source}, hunk {number} of {len(file.hunks)}: {header}"
    return f"{source}, at line {line}"


def stage(
    pristine: Path, staging: Path, patches: Sequence[Patch], variant: str, kernel: str
) -> dict[str, Path | None]:
    """Apply a variant's patches to copies of the files they touch.

    The kernel tree itself is only read. Context must match exactly (`git
    apply` has no fuzz); line numbers may be off.

    Args:
        pristine: the unpatched kernel tree.
        staging: an empty folder, which gets the patched copies.
        patches: in the order they apply.
        variant: its name, for messages.
        kernel: the kernel's description, for messages.

    Returns:
        Path in the tree -> patched copy, or None if the file does not exist
        in the patched tree.

    Raises:
        KdeltaError: a patch does not apply; the message names the variant,
            the patch, the source file, the hunk and the kernel.
    """
    touched: set[str] = set()
    for patch in patches:
        paths = touched_paths(patch.text)
        if not paths:
            raise KdeltaError(
                f"variant {variant}: {patch.path}: no diff in this file; "
                "a patch is what `git format-patch` or `diff -u` writes"
            )
        for path in paths:
            if path.startswith("/") or ".." in Path(path).parts:
                raise KdeltaError(
                    f"variant {variant}: {patch.path}: the path {path!r} leads out of the kernel "
                    "tree; paths in a patch are relative to it, after a/ and b/"
                )
        touched |= paths
    staging.mkdir(parents=True, exist_ok=True)
    for path in sorted(touched):
        if os.path.lexists(pristine / path):
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(pristine / path, staging / path, follow_symlinks=False)
    for patch in patches:
        result = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            cwd=staging,
            env=clean_environment(_isolated_git(staging)),
            input=patch.content,
            capture_output=True,
            check=False,
        )
        if result.returncode != 0:
            raise KdeltaError(
                _does_not_apply(
                    variant, patch, kernel, pristine, result.stderr.decode("utf-8", "replace")
                )
            )
    return {
        path: staging / path if os.path.lexists(staging / path) else None
        for path in sorted(touched)
    }


def _isolated_git(folder: Path) -> Mapping[str, str]:
    """Git settings under which neither a repository around `folder` nor the user's own count."""
    return {
        "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def _does_not_apply(variant: str, patch: Patch, kernel: str, pristine: Path, stderr: str) -> str:
    said = "; ".join(stderr.strip().splitlines())
    return (
        f"variant {variant}: {patch.path} does not apply to {kernel}\n"
        f"  {explain_failure(patch.text, stderr)}\n"
        f"  git apply says: {said}\n"
        "Rebase the patch on this kernel, or name in the experiment (kernel.source) the kernel "
        f"it was made for. The source it was tried on is in {pristine}"
    )
