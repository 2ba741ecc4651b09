# SPDX-License-Identifier: GPL-2.0-only
"""Which files an arm's patches are in, in which order. Cheap: no file is opened here."""

from __future__ import annotations

import email.parser
import email.policy
import re
from pathlib import Path

from kdelta.arms import Arm
from kdelta.per_kernel import Series, patch_folder

# As git, b4 and mail programs name them; compressed ones are found, to be told that they are.
_PATCH_NAME = re.compile(r".+\.(patch|diff|mbox|mbx|eml|cover)(\.(gz|xz|bz2|zst))?", re.IGNORECASE)
# [PATCH 0/3], [RFC PATCH v2 00/11]
COVER_TAG = re.compile(r"\[[^\]]*\b0+/\d+\s*\]")
_DIFF_LINE = re.compile(
    rb"^(?:diff --git |--- \S|\+\+\+ \S|@@ |Index: |GIT binary patch)", re.MULTILINE
)
_ENCODED = re.compile(rb"^content-transfer-encoding:\s*(?:base64|quoted-printable)", re.I | re.M)


def patch_files(arm: Arm, root: Path, series: Series | None = None) -> list[Path]:
    """The arm's patch files, cover letters among them, in the order they apply.

    A folder stands for the patches in it: hidden files and what editors leave (``x.patch~``)
    are none. Numbers in names count as numbers: 9- comes before 10-.

    Args:
        arm: whose patches.
        root: the folder that they are relative to.
        series: of the kernel; None if that is not known yet.

    Raises:
        FileNotFoundError: a named file or folder does not exist, or a folder holds no
            patch, or none for this kernel (the message begins with the path).
    """
    files: list[Path] = []
    for entry in arm.patches:
        path = root / entry
        if path.is_dir():
            try:
                folder = patch_folder(path, series)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{entry} {error}") from None
            found = [
                file
                for file in folder.iterdir()
                if _PATCH_NAME.fullmatch(file.name)
                and not file.name.startswith((".", "#"))
                and file.is_file()
            ]
            if not found:
                name = folder.relative_to(root)
                raise FileNotFoundError(f"{name} (a folder without *.patch files)")
            files.extend(sorted(found, key=natural_order))
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(entry)
    return files


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts files by name as `sort -V` does: digits by the number they make."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def surely_cover_letter(content: bytes) -> bool:
    """Whether a file is a cover letter beyond doubt: numbered 0, and nowhere a diff.

    For keys, which are made often and without git. What is doubtful counts as a patch here;
    `kernel.patches` asks git.
    """
    if _ENCODED.search(content) or _DIFF_LINE.search(content):
        return False
    head = content.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0]
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(
        head.split(b"\n", 1)[-1] if head.startswith(b"From ") else head
    )
    return COVER_TAG.match(" ".join(str(message.get("Subject", "")).split())) is not None
