# SPDX-License-Identifier: GPL-2.0-only
"""A small kernel tree, patches for it in every form, and what `git am` makes of them."""

from __future__ import annotations

import base64
import os
import quopri
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kdelta.kernel.patching import Staged

PIPE = [f"/* line {number} */\n" for number in range(1, 41)]
PIPE[9:13] = ["static int alloc(void)\n", "{\n", "\treturn 0;\n", "}\n"]
FILES = {
    "fs/pipe.c": "".join(PIPE),
    "fs/old.c": "".join(f"int old_{number};\n" for number in range(20)),
    "include/pipe.h": "struct pipe;\n",
    "scripts/run.sh": "#!/bin/sh\nexit 0\n",
    "docs/dos.txt": "one\r\ntwo\r\nthree\r\n",
    "Makefile": "VERSION = 6\n",
}
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ada Author"), ("EMAIL", "ada@example.org"))
    },
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


def git(folder: Path, *arguments: str, check: bool = True, stdin: bytes = b"") -> bytes:
    """What git prints; empty where it fails and that is no matter."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True
    )
    if done.returncode != 0:
        assert not check, f"git {arguments}: {done.stdout!r} {done.stderr!r}"
        return b""
    return done.stdout


def make_tree(folder: Path) -> Path:
    """The tree, without a repository."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    (folder / "scripts/run.sh").chmod(0o755)
    (folder / "link.h").symlink_to("include/pipe.h")
    return folder


def make_repository(folder: Path) -> Path:
    """The tree as a repository with one commit."""
    make_tree(folder)
    git(folder, "init", "-q")
    (folder / ".git/info").mkdir(exist_ok=True)
    (folder / ".git/info/attributes").write_text("* -text\n")
    git(folder, "add", "-Af")
    git(folder, "commit", "-qm", "base")
    git(folder, "tag", "base")
    return folder


def commit(repository: Path, subject: str, body: str = "Because.") -> None:
    """Everything that was changed, as a commit."""
    git(repository, "add", "-Af")
    message = f"{subject}\n\n{body}\n\nSigned-off-by: Ada Author <ada@example.org>\n"
    git(repository, "commit", "-q", "--allow-empty", "-F", "-", stdin=message.encode())


def mbox(repository: Path, *options: str) -> bytes:
    """What was committed since the base, as `git format-patch --stdout` writes it."""
    return git(repository, "format-patch", "--stdout", "-C", *options, "base..HEAD")


def am_tree(repository: Path, files: Sequence[Path]) -> str | None:
    """The tree that `git am` makes of files, plain or with --keep-cr; None if it refuses."""
    names = [str(file) for file in files]
    for option in ("--no-keep-cr", "--keep-cr"):
        git(repository, "reset", "-q", "--hard", "base")
        git(repository, "clean", "-qffdx")
        shutil.rmtree(repository / ".git/rebase-apply", ignore_errors=True)
        git(repository, "am", "-q", option, *names, check=False)
        finished = not (repository / ".git/rebase-apply").exists()
        moved = git(repository, "rev-parse", "HEAD") != git(repository, "rev-parse", "base^{}")
        if finished and moved:
            return git(repository, "rev-parse", "HEAD^{tree}").decode().strip()
    return None


def staged_tree(pristine: Path, staged: Staged, folder: Path) -> str:
    """The git tree of a kernel tree with the staged files put in, as a workspace does."""
    shutil.copytree(pristine, folder, symlinks=True)
    for path, file in staged.files.items():
        if file is None and os.path.lexists(folder / path):
            (folder / path).unlink()
    for path, file in staged.files.items():
        if file is not None:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(file, target, follow_symlinks=False)
    git(folder, "init", "-q")
    (folder / ".git/info").mkdir(exist_ok=True)
    (folder / ".git/info/attributes").write_text("* -text\n")
    git(folder, "add", "-Af")
    for path, submodule in staged.submodules.items():
        git(folder, "update-index", "--add", "--cacheinfo", f"160000,{submodule},{path}")
    return git(folder, "write-tree").decode().strip()


def transfer(mail: bytes, encoding: str, charset: str = "UTF-8") -> bytes:
    """A mail of one patch, its body sent in another transfer encoding."""
    head, body = mail.split(b"\n\n", 1)
    lines = [
        line
        for line in head.split(b"\n")
        if not line.lower().startswith((b"mime-version:", b"content-"))
    ]
    if encoding == "base64":
        body = base64.encodebytes(body)
    elif encoding == "quoted-printable":
        body = quopri.encodestring(body)
    lines += [
        b"MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={charset}".encode(),
        f"Content-Transfer-Encoding: {encoding}".encode(),
    ]
    return b"\n".join(lines) + b"\n\n" + body
