# SPDX-License-Identifier: GPL-2.0-only
"""Patches in every form that people have them in: what `git am` makes of them is right."""

from __future__ import annotations

import quopri
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patch_inputs import (
    am_tree,
    commit,
    git,
    make_repository,
    make_tree,
    mbox,
    staged_tree,
    transfer,
)

from kdelta.errors import KdeltaError
from kdelta.kernel.patches import read_patches
from kdelta.kernel.patching import stage


class Bench:
    """A kernel tree, a repository of it, and folders for what is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = make_tree(folder / "tree")
        self.repository = make_repository(folder / "linux")
        self.tries = 0

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / "patches" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def ours(self, *files: Path) -> tuple[str, int]:
        """The tree that is built, and how many patches were seen."""
        self.tries += 1
        here = self.folder / f"try-{self.tries}"
        patches = read_patches(files)
        staged = stage(self.tree, here / "staging", patches, "patched", "Linux 6.12.1")
        count = sum(len(file.commits) for file in patches)
        return staged_tree(self.tree, staged, here / "tree"), count

    def edit(self, old: str, new: str, name: str = "fs/pipe.c") -> None:
        path = self.repository / name
        content = path.read_bytes()
        assert old.encode() in content
        path.write_bytes(content.replace(old.encode(), new.encode()))

    def reset(self) -> None:
        git(self.repository, "reset", "-q", "--hard", "base")
        git(self.repository, "clean", "-qffdx")

    def one_mail(self, subject: str = "fs/pipe: größer", body: str = "Because.") -> bytes:
        self.reset()
        self.edit("return 0;", "return 1;\t/* = größer */")
        commit(self.repository, subject, body)
        return mbox(self.repository)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def edit_rename(bench: Bench) -> None:
    bench.edit("return 0;", "return 1;")
    commit(bench.repository, "edit")
    (bench.repository / "fs/pipe.c").rename(bench.repository / "fs/tube.c")
    commit(bench.repository, "rename")
    bench.edit("return 1;", "return 2;", "fs/tube.c")
    commit(bench.repository, "edit again")


def edit_delete(bench: Bench) -> None:
    bench.edit("return 0;", "return 1;")
    commit(bench.repository, "edit")
    (bench.repository / "fs/pipe.c").unlink()
    commit(bench.repository, "delete")


def create_move_delete_create(bench: Bench) -> None:
    new = bench.repository / "fs/new.c"
    new.write_text("int fresh;\nint more;\n")
    commit(bench.repository, "create")
    new.rename(bench.repository / "fs/moved.c")
    commit(bench.repository, "move")
    (bench.repository / "fs/moved.c").unlink()
    commit(bench.repository, "delete")
    new.write_text("int again;\n")
    commit(bench.repository, "create again")


def copy_and_modes(bench: Bench) -> None:
    source = bench.repository / "fs/old.c"
    bench.edit("int old_3;", "int old_three;", "fs/old.c")
    (bench.repository / "fs/copy.c").write_bytes(source.read_bytes() + b"int last;\n")
    (bench.repository / "scripts/run.sh").chmod(0o644)
    (bench.repository / "Makefile").chmod(0o755)
    commit(bench.repository, "copy, modes")


def links_and_binaries(bench: Bench) -> None:
    (bench.repository / "link.h").unlink()
    (bench.repository / "link.h").write_text("no link any more\n")
    (bench.repository / "fs/link.c").symlink_to("pipe.c")
    (bench.repository / "logo.bin").write_bytes(bytes(range(256)) * 4)
    (bench.repository / "empty").write_bytes(b"")
    (bench.repository / "no-newline").write_bytes(b"last line")
    commit(bench.repository, "links, binaries")
    (bench.repository / "logo.bin").write_bytes(bytes(range(255, -1, -1)) * 4)
    commit(bench.repository, "another binary")


def odd_names(bench: Bench) -> None:
    folder = bench.repository / "fs/ with blank"
    folder.mkdir()
    for name in ("größer.c", 'quote".c', "tab\there.c", "back\\slash.c", "star*.c"):
        (folder / name).write_text(f"/* {name} */\n")
    commit(bench.repository, "names")
    (folder / "größer.c").rename(folder / "kleiner.c")
    commit(bench.repository, "another name")


def dos_lines(bench: Bench) -> None:
    bench.edit("two\r\n", "deux\r\n", "docs/dos.txt")
    commit(bench.repository, "docs: dos")


def a_submodule(bench: Bench) -> None:
    entry = f"160000,{'1' * 40},vendor/sub"
    git(bench.repository, "update-index", "--add", "--cacheinfo", entry)
    git(bench.repository, "commit", "-qm", "a submodule")


def file_becomes_folder(bench: Bench) -> None:
    (bench.repository / "Makefile").unlink()
    (bench.repository / "Makefile").mkdir()
    (bench.repository / "Makefile/main").write_text("all:\n")
    commit(bench.repository, "a folder")


def hunk_in_message(bench: Bench) -> None:
    bench.edit("return 0;", "return 1;")
    body = "The old code was\n\n--- a/../x was removed\n @@ -1,3 +1,3 @@\n -x\n +y\n\nand so on."
    commit(bench.repository, "fs/pipe: hunk", body)


HISTORIES: list[Callable[[Bench], None]] = [
    edit_rename,
    edit_delete,
    create_move_delete_create,
    copy_and_modes,
    links_and_binaries,
    odd_names,
    dos_lines,
    a_submodule,
    file_becomes_folder,
    hunk_in_message,
]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_the_tree_of_git_am(bench: Bench, history: Callable[[Bench], None]) -> None:
    bench.reset()
    history(bench)
    count = int(git(bench.repository, "rev-list", "--count", "base..HEAD"))
    file = bench.write("series.mbox", mbox(bench.repository))
    tree = am_tree(bench.repository, [file])
    if tree is None:  # a message that looks like a patch
        with pytest.raises(KdeltaError):
            bench.ours(file)
    else:
        assert bench.ours(file) == (tree, count)


def attached(bench: Bench) -> bytes:
    mail = bench.one_mail("fs/pipe: attached")
    head, body = mail.split(b"\n\n", 1)
    message, _, diff = body.partition(b"---\n")
    parts = (
        b'--xyz\nContent-Type: text/plain; charset="utf-8"\n\n' + message + b"---\n\n",
        b'--xyz\nContent-Type: text/x-patch; charset="utf-8"; name="0001.patch"\n'
        b"Content-Transfer-Encoding: quoted-printable\n"
        b'Content-Disposition: attachment; filename="0001.patch"\n\n' + quopri.encodestring(diff),
        b"--xyz--\n",
    )
    lines = [x for x in head.split(b"\n") if not x.startswith((b"MIME", b"Content"))]
    kind = b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="xyz"'
    return b"\n".join([*lines, kind]) + b"\n\n" + b"\n".join(parts)


def relayed(bench: Bench) -> bytes:
    mail = bench.one_mail("fs/pipe: relayed")
    head, body = mail.split(b"\n\n", 1)
    lines = head.split(b"\n")
    relay = b"Received: from a (b [192.0.2.1])\n\tby c; Thu, 1 Jan 2026 00:00:00 +0000"
    lines[1] = b"From: Mel Maintainer <mel@example.org>"
    inside = b"From: Ada Author <ada@example.org>\n\n"
    footer = b"\n_______________________________________________\nlist mailing list\n"
    return b"\n".join([lines[0], relay, *lines[1:]]) + b"\n\n" + inside + body + footer


def big5(bench: Bench) -> bytes:
    mail = bench.one_mail("fs/pipe: one", "許功蓋 says why.")
    return mail.replace("許功蓋".encode(), "許功蓋".encode("big5")).replace(
        b"charset=UTF-8", b"charset=big5"
    )


def flowed(bench: Bench) -> bytes:
    mail = bench.one_mail()
    head, body = mail.split(b"\n\n", 1)
    stuffed = b"\n".join(b" " + x if x[:1] == b" " else x for x in body.split(b"\n"))
    return head.replace(b"charset=UTF-8", b"charset=UTF-8; format=flowed") + b"\n\n" + stuffed


def from_mercurial(bench: Bench) -> bytes:
    diff = bench.one_mail().partition(b"\ndiff --git")[2]
    head = b"# HG changeset patch\n# User Ada Author <ada@example.org>\n# Date 1 0\n\nfs: hg\n\n"
    return head + b"diff --git" + diff


MAILS: list[Callable[[Bench], bytes]] = [
    attached,
    relayed,
    big5,
    flowed,
    from_mercurial,
    lambda bench: bench.one_mail().split(b"\n", 1)[1],  # without the mbox line
    lambda bench: bench.one_mail().replace(b"\n", b"\r\n"),
    lambda bench: b"\n" + bench.one_mail(),
    lambda bench: bench.one_mail() + b"\n\n" + b"-- \nsignature\n",
]


@pytest.mark.parametrize("make", MAILS)
def test_mails_as_they_come(bench: Bench, make: Callable[[Bench], bytes]) -> None:
    file = bench.write("mail.patch", make(bench))
    tree = am_tree(bench.repository, [file])
    assert tree is not None
    assert bench.ours(file) == (tree, 1)
    (patch,) = read_patches([file])
    (read,) = patch.commits
    assert read.author == ("Ada Author", "ada@example.org")


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    encodings=st.lists(
        st.sampled_from(["8bit", "base64", "quoted-printable"]), min_size=1, max_size=3
    ),
    crlf=st.booleans(),
    one_file=st.booleans(),
)
def test_any_encoding_and_line_end(
    bench: Bench, encodings: list[str], crlf: bool, one_file: bool
) -> None:
    mails = []
    bench.reset()
    for number, encoding in enumerate(encodings):
        bench.edit(f"/* line {20 + number} */", f"int größer_{number} = {number}; /* =3D */")
        commit(bench.repository, f"fs/pipe: {encoding} größer {number}")
        made = git(bench.repository, "format-patch", "--stdout", "-1")
        mail = transfer(made, encoding)
        mails.append(mail.replace(b"\n", b"\r\n") if crlf else mail)
    if one_file:
        files = [bench.write("series.mbx", b"\n".join(mails))]
    else:
        files = [bench.write(f"{n}-part.patch", mail) for n, mail in enumerate(mails)]
    tree = am_tree(bench.repository, files)
    assert tree is not None
    assert bench.ours(*files) == (tree, len(mails))
    subjects = [commit.subject for file in read_patches(files) for commit in file.commits]
    assert subjects == [f"fs/pipe: {e} größer {n}" for n, e in enumerate(encodings)]


def wrapped(mail: bytes) -> bytes:
    return mail.replace(b" static int alloc(void)", b" static int\nalloc(void)")


DAMAGED: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda mail: b"\xef\xbb\xbf" + mail, "byte order mark"),
    (lambda mail: mail.decode().encode("utf-16"), "text in UTF-16"),
    (lambda mail: b"\x1f\x8b" + mail, "compressed with gzip; unpack it first"),
    (lambda mail: b"<!DOCTYPE html>\n" + mail, "a web page and no patch"),
    (lambda _: b"\n", "this file is empty"),
    (lambda mail: mail.split(b"---\n")[0], "no diff in this file .*Patch is empty"),
    (lambda mail: b"> quoted\n\n" + mail, "something stands before"),
    (wrapped, r"corrupt patch at line.*'alloc\(void\)', is the rest of the one above"),
    (lambda mail: mail.split(b" /* line 14")[0], "corrupt patch.*it is cut short"),
    (lambda mail: mail.replace(b"\t", b"        "), "turned tabs into blanks"),
    (lambda mail: mail.replace(b"/fs/pipe.c", b"/../pipe.c"), "leads out of the kernel tree"),
    (lambda mail: mail.replace(b"/fs/pipe.c", b"/.git/config"), "leads out of the kernel tree"),
    (lambda mail: mail.replace(b"/fs/pipe.c", b"/fs/gone.c"), "needs fs/gone.c, which is not"),
    (lambda mail: mail.replace(b"/fs/pipe.c", b"/link.h/x"), "does not apply"),
    (lambda mail: mail.replace(b"a/fs", b"fs").replace(b"b/fs", b"fs"), "prefixes a/ and b/"),
    (lambda mail: mail.replace(b"/fs/", b"/linux-6.12/fs/"), "one folder too many"),
    (lambda mail: mail.replace(b"/* line 9 */", b"/* rewritten */"), "altered or damaged since"),
]


@pytest.mark.parametrize(("harm", "said"), DAMAGED)
def test_what_git_refuses_is_refused_with_what_helps(
    bench: Bench, harm: Callable[[bytes], bytes], said: str
) -> None:
    file = bench.write("harmed.patch", harm(bench.one_mail()))
    assert am_tree(bench.repository, [file]) is None
    with pytest.raises(KdeltaError, match=f"(?s)harmed.patch.*{said}"):
        bench.ours(file)


def test_a_patch_made_on_another_kernel(bench: Bench) -> None:
    bench.reset()
    bench.edit("/* line 9 */", "/* of another kernel */")
    git(bench.repository, "commit", "-qam", "another kernel")
    bench.edit("return 0;", "return 1;")
    commit(bench.repository, "fs/pipe: one")
    file = bench.write("0007.patch", git(bench.repository, "format-patch", "--stdout", "-1"))
    with pytest.raises(KdeltaError, match=r"(?s)hunk 1 of 1: @@ -9,7 .*Rebase the patch on this"):
        bench.ours(file)


def test_a_patch_that_is_there_already(bench: Bench) -> None:
    one = bench.write("one.patch", bench.one_mail())
    same = bench.write("one (1).patch", bench.one_mail())
    with pytest.raises(KdeltaError, match=r"applied already: one\.patch has the same change"):
        bench.ours(one, same)
    bench.reset()
    bench.edit("return 0;", "return 1;")
    git(bench.repository, "commit", "-qam", "before")
    bench.edit("return 1;", "return 0;")
    commit(bench.repository, "fs/pipe: back")
    file = bench.write("back.patch", git(bench.repository, "format-patch", "--stdout", "-1"))
    with pytest.raises(KdeltaError, match="in this kernel already"):
        bench.ours(file)


def test_an_order_that_does_not_apply_is_said(bench: Bench) -> None:
    bench.reset()
    bench.edit("return 0;", "return 1;")
    commit(bench.repository, "one")
    bench.edit("return 1;", "return 2;")
    commit(bench.repository, "two")
    first, second = (
        git(bench.repository, "format-patch", "--stdout", "-1", f"HEAD~{back}") for back in (1, 0)
    )
    files = [bench.write("a.patch", second), bench.write("b.patch", first)]
    said = r"It applies after b\.patch, which comes later: the order used is a\.patch, b\.patch"
    with pytest.raises(KdeltaError, match=said):
        bench.ours(*files)
    assert bench.ours(*reversed(files))[1] == 2


@pytest.mark.parametrize("head", ["", "commit 12\nAuthor: A <a@b>\n\n    why\n\n", "Why.\n\n"])
def test_a_plain_diff_is_taken_as_git_apply_takes_it(bench: Bench, head: str) -> None:
    bench.reset()
    bench.edit("return 0;", "return 1;")
    (bench.repository / "fs/new.c").write_text("int fresh;\n")
    git(bench.repository, "add", "-A")
    git(bench.repository, "commit", "-qm", "x")
    tree = git(bench.repository, "rev-parse", "HEAD^{tree}").decode().strip()
    diff = git(bench.repository, "diff", "base", "HEAD")
    # What a mail program makes of the tab before the time stamp of `diff -u`.
    diff = diff.replace(b"+++ b/fs/new.c\n", b"+++ b/fs/new.c 2026-01-01 00:00:00.0 +0000\n")
    diff = diff.replace(
        b"diff --git a/fs/new.c b/fs/new.c\nnew file mode 100644\n", b"diff -u x y\n"
    )
    file = bench.write("idea.diff", head.encode() + diff)
    assert bench.ours(file) == (tree, 1)
    (patch,) = read_patches([file])
    assert patch.commits[0].subject == "idea.diff"
    assert patch.commits[0].author is None


def test_a_cover_letter_is_kept_and_not_applied(bench: Bench) -> None:
    bench.reset()
    bench.edit("return 0;", "return 1;")
    commit(bench.repository, "one")
    bench.edit("return 1;", "return 2;")
    commit(bench.repository, "two")
    tree = git(bench.repository, "rev-parse", "HEAD^{tree}").decode().strip()
    both = mbox(bench.repository, "--cover-letter")
    file = bench.write("series.mbox", both)
    assert bench.ours(file) == (tree, 2)
    (patch,) = read_patches([file])
    assert patch.covers == ("*** SUBJECT HERE ***",)


@pytest.mark.parametrize(
    ("names", "tag"),
    [
        (("v1-0001-x.patch", "v2-0001-x.patch"), "-v{}"),
        (("a.patch", "b.patch"), "-v{}"),
        (("v1-0001-x.patch", "v2-0001-x.patch"), "--subject-prefix=PATCH"),
    ],
)
def test_two_versions_of_one_series_are_named(
    bench: Bench, names: tuple[str, str], tag: str
) -> None:
    """In subjects, or where these have none, in the names of the files."""
    bench.one_mail()
    files = [
        bench.write(name, mbox(bench.repository, tag.format(version)))
        for version, name in enumerate(names, start=1)
    ]
    with pytest.raises(KdeltaError, match=f"{names[0]} and .*{names[1]}: versions v1 and v2"):
        read_patches(files)


def test_settings_of_the_user_do_not_count(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / ".gitconfig"
    config.write_text("[am]\n\tkeepcr = true\n\tthreeWay = true\n[apply]\n\twhitespace = fix\n")
    (tmp_path / ".config/git").mkdir(parents=True)
    (tmp_path / ".config/git/attributes").write_text("* text eol=crlf\n")
    file = bench.write("mail.patch", bench.one_mail())
    tree = am_tree(bench.repository, [file])
    for name, value in (
        ("HOME", str(tmp_path)),
        ("XDG_CONFIG_HOME", str(tmp_path / ".config")),
        ("GIT_CONFIG_GLOBAL", str(config)),
        ("GIT_DIR", str(tmp_path / "elsewhere")),
    ):
        monkeypatch.setenv(name, value)
    assert bench.ours(file) == (tree, 1)
