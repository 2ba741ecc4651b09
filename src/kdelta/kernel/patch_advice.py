# SPDX-License-Identifier: GPL-2.0-only
"""Why a patch did not apply: what git's refusal means in this case, and what helps."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdelta.kernel.damage import AS_SENT
from kdelta.kernel.isolated_git import git, run_git
from kdelta.kernel.patches import Commit, PatchFile, mixed_versions, order_warning

_FAILED = re.compile(r"(?:error: )?patch failed: (?P<file>[^;]*):(?P<line>\d+)(?:;|$)")
_NAMES = re.compile(r"(?m)^(?:--- (.*)\n\+\+\+ (.*)$|(@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*)$)")
_MISSING = re.compile(r"error: ([^;]*): (?:does not exist in index|No such file or directory)")
_THERE = re.compile(r"error: ([^;]*): already exists in (?:index|working directory)")


@dataclass(frozen=True)
class Refused:
    """What a patch was tried on.

    Attributes:
        pristine: the unpatched kernel tree.
        repository: the staged copies, as they were before the patch.
        patches: all of the arm's, in order.
        arm: its name.
        kernel: the kernel's description.
    """

    pristine: Path
    repository: Path
    patches: Sequence[PatchFile]
    arm: str
    kernel: str


def where(diff: bytes, error: str) -> str:
    """The source file, hunk number and hunk header that git refused.

    Args:
        diff: the patch.
        error: what git said.

    Returns:
        One line; git's own first words where it was not a hunk that failed.
    """
    failed = _FAILED.search(error)
    if failed is None:
        return error.split("; ")[0].removeprefix("error: ") or "git failed without a message"
    source, line = failed["file"], int(failed["line"])
    # Only looked up for a message: git alone decides what the diff says.
    hunks: list[tuple[int, str]] = []
    ours = False
    for old, new, header, start in _NAMES.findall(diff.decode("utf-8", "replace")):
        if header:
            hunks += [(int(start), header.rstrip())] if ours else []
        else:
            names = (name.split("\t")[0].rstrip() for name in (old, new))
            ours = any(name.endswith(f"/{source}") for name in names)
    for number, (start, header) in enumerate(hunks, start=1):
        if start == line:
            return f"{source}, hunk {number} of {len(hunks)}: {header}"
    return f"{source}, at line {line}"


def advice(refused: Refused, file: PatchFile, commit: Commit, error: str) -> str:
    """What a refusal means here and what to do, one or two sentences without the last stop.

    Args:
        refused: what it was tried on, as it was before.
        file: the patch file.
        commit: the patch in it.
        error: what git said.
    """
    if any(leads_out(path) for path in commit.paths):
        return (
            "A path leads out of the kernel tree, or into git's own folder; paths in a patch are "
            "relative to the tree, after a/ and b/"
        )
    if "beyond a symbolic link" in error:
        return "A path goes through a symbolic link of the kernel; name the file by its real path"
    if "empty ident name" in error:
        return "This mail names no author: its From: line is missing; get the mail as it was sent"
    if "without full index line" in error or "cannot apply binary patch" in error:
        return (
            "The contents of a binary file are not in this patch; make it anew with "
            "`git format-patch`, or `git diff --binary --full-index`"
        )
    return (
        _already_there(refused, file, commit)
        or _other_prefix(refused, commit)
        or _other_blanks(refused, commit)
        or _other_order(refused, commit)
        or _missing_file(refused, error)
        or _altered(refused, commit, error)
        or _several_versions(refused)
        or "Rebase the patch on this kernel, or name in the experiment (kernel.source) the kernel "
        "it was made for"
    )


def leads_out(path: str) -> bool:
    """Whether a path in a patch is none in the kernel tree; git takes no such patch."""
    parts = path.lower().split("/")
    return path.startswith("/") or ".." in parts or ".git" in parts


def _takes(refused: Refused, diff: bytes, *options: str) -> bool:
    arguments = ["apply", "--check", "--cached", *options, "-"]
    return run_git(arguments, refused.repository, stdin=diff).returncode == 0


def _already_there(refused: Refused, file: PatchFile, commit: Commit) -> str | None:
    if not _takes(refused, commit.diff, "-R"):
        return None
    for earlier in refused.patches:
        for other in earlier.commits:
            if other is commit:
                return (
                    "It is in this kernel already: what it would change is changed; take it out "
                    "of the arm, or name a kernel without it (kernel.source)"
                )
            same = other.subject == commit.subject or _changes(other) == _changes(commit)
            if same:
                return (
                    f"It is applied already: {earlier.path.name} has the same change; "
                    f"list one of {earlier.path.name} and {file.path.name} only"
                )
    return "It is applied already"


def _changes(commit: Commit) -> list[bytes]:
    lines = commit.diff.split(b"\n")
    return [line for line in lines if line[:1] in (b"+", b"-") and line[:3] != b"---"]


def _other_prefix(refused: Refused, commit: Commit) -> str | None:
    there = [os.path.lexists(refused.pristine / path) for path in commit.paths]
    if any(there):
        return None
    for strip, what, mend in (
        (
            "-p0",
            "the prefixes a/ and b/ are missing from its paths (git's diff.noprefix)",
            "make it anew with `git -c diff.noprefix=false format-patch`",
        ),
        (
            "-p2",
            "its paths have one folder too many before the kernel's",
            "make it anew in the kernel's top folder",
        ),
    ):
        done = run_git(
            ["apply", strip, "--numstat", "-z", "-"], refused.repository, stdin=commit.diff
        )
        names = [
            os.fsdecode(record.split(b"\t", 2)[2]) for record in done.stdout.split(b"\0") if record
        ]
        # Whatever lies in a folder of the kernel has its folders.
        known = any((refused.pristine / path.split("/")[0]).is_dir() for path in commit.paths)
        if strip == "-p2" and known:
            continue
        if any(os.path.lexists(refused.pristine / name) for name in names):
            return f"It is for this tree, but {what}: {mend}"
    return None


def _other_blanks(refused: Refused, commit: Commit) -> str | None:
    if b"\r\n" in commit.diff and _takes(refused, commit.diff.replace(b"\r\n", b"\n")):
        return (
            "Its lines end as Windows has them (CR LF) and the kernel's do not; convert it with "
            "`sed -i 's/\\r$//'`"
        )
    if _takes(refused, commit.diff, "--ignore-whitespace"):
        return (
            "The patch is damaged: it would apply if blanks did not count, so a mail program or "
            f"a copy turned tabs into blanks or cut them off; {AS_SENT}"
        )
    return None


def _other_order(refused: Refused, commit: Commit) -> str | None:
    """Whether a patch that comes later has to come before."""
    listed = [(file, other) for file in refused.patches for other in file.commits]
    places = [n for n, (_, other) in enumerate(listed) if other.diff == commit.diff]
    for file, later in listed[places[-1] + 1 :] if places else ():
        if later.paths & commit.paths and _takes(refused, later.diff):
            # To the index alone, which is then put back.
            git(["apply", "--cached", "-"], refused.repository, stdin=later.diff)
            takes = _takes(refused, commit.diff)
            git(["read-tree", "HEAD"], refused.repository)
            if takes:
                order = ", ".join(patch.path.name for patch in refused.patches)
                numbers = order_warning(refused.patches)
                return (
                    f"It applies after {file.path.name}, which comes later: the order used is "
                    f"{order}. Files of a folder are taken in the order of their names, numbers "
                    "as numbers; rename them, or list them one by one in the experiment"
                    + (f" ({numbers})" if numbers else "")
                )
    return None


def _missing_file(refused: Refused, error: str) -> str | None:
    if (there := _THERE.search(error)) is not None:
        return (
            f"It makes {there[1]}, which is there already, in this kernel or by a patch before "
            "it; the patch is for another kernel (kernel.source), or came twice"
        )
    if (missing := _MISSING.search(error)) is None:
        return None
    several = _several_versions(refused)
    return several or (
        f"It needs {missing[1]}, which is not there: this kernel has no such file, and no patch "
        "before it makes it. List the patch that does first, or name the kernel it was made for "
        "(kernel.source)"
    )


def _altered(refused: Refused, commit: Commit, error: str) -> str | None:
    """Whether the patch was made on the very file that it does not apply to."""
    failed = _FAILED.search(error)
    if failed is None:
        return None
    path = re.escape(os.fsencode(failed["file"]))
    made_on = re.search(
        rb"^diff --git a/" + path + rb" [^\n]*\n(?:[^\n-][^\n]*\n)*?index ([0-9a-f]{7,40})\.\.",
        commit.diff,
        re.MULTILINE,
    )
    done = run_git(["rev-parse", "--verify", f"HEAD:{failed['file']}"], refused.repository)
    if made_on is None or not done.stdout.startswith(made_on[1]):
        return None
    return (
        f"It was made on the very {failed['file']} that is there (its index line says so), so the "
        f"patch was altered or damaged since; {AS_SENT}"
    )


def _several_versions(refused: Refused) -> str | None:
    versions = mixed_versions(refused.patches)
    if versions is None:
        return None
    return (
        f"The arm has patches of several versions: {versions}; keep those of one version, "
        "or list the wanted files one by one"
    )
