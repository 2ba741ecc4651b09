# SPDX-License-Identifier: GPL-2.0-only
"""The patch series: the generated selftest patch, the form of every patch, what sets them apart."""

from __future__ import annotations

import email
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.kernel.series import (
    LINUX_6_12,
    MAINTAINERS_6_12,
    MAKEFILE_6_12,
    PATCH_NAME,
    LineEdit,
    SelftestSources,
    blob_id,
    main,
    maintainers_edit,
    makefile_edit,
    read_sources,
    selftest_patch,
    write_selftest_patch,
)

ROOT = Path(__file__).resolve().parents[2]
BENCH_DIR = ROOT / "src" / "pipe_bench"
BULK = (
    ROOT / "patches/pipe-prealloc/linux-6.12",
    "0001-fs-pipe-bulk-pre-allocate-pages-outside-pipe-mutex.patch",
)
LOOP = (
    ROOT / "patches/pipe-prealloc-loop/linux-6.12",
    "0001-fs-pipe-pre-allocate-pages-singly-outside-pipe-mutex.patch",
)
SERIES = (BULK, LOOP)
MAKEFILE = "tools/testing/selftests/Makefile"

# A selftests Makefile with Linux 6.12's lines around the new one, on their line numbers.
BASE = (
    "# SPDX-License-Identifier: GPL-2.0\nTARGETS += acct\n"
    + "".join(f"# filler {n}\n" for n in range(3, 74))
    + "TARGETS += nsfs\n"
    + "".join(f"{line}\n" for line in (*MAKEFILE_6_12.before, *MAKEFILE_6_12.after))
    + "TARGETS += proc\n\nTARGETS_HOTPLUG = cpu-hotplug\n\nall:\n\t@true\n"
)
# A MAINTAINERS file with Linux 6.12's lines around the new one, on their line numbers.
ENTRY = "FILESYSTEMS (VFS and infrastructure)\nF:\tfs/*\n"
MAINTAINERS = (
    "".join(f"# filler {n}\n" for n in range(MAINTAINERS_6_12.first_line - 4))
    + f"{ENTRY}{MAINTAINERS_6_12.heading}\n"
    + "".join(f"{line}\n" for line in (*MAINTAINERS_6_12.before, *MAINTAINERS_6_12.after))
)
EDITS = (maintainers_edit(MAINTAINERS), makefile_edit(BASE))
SOURCES = SelftestSources(
    bench="/* From me */\nint main(void)\n{\n\treturn 0;\n}\n" + "/* long */\n" * 300,
    makefile="TEST_GEN_PROGS := pipe_bench\n\n-include ../lib.mk\n",
    gitignore="pipe_bench\n",
)


def git(folder: Path, *argv: str) -> str:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(
        ["git", *identity, *argv],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        # Nothing of the tester's own git settings.
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"},
    )
    assert done.returncode == 0, f"git {' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git repository that holds only the files that get a line."""
    folder = tmp_path / "linux"
    (folder / MAKEFILE).parent.mkdir(parents=True)
    (folder / MAKEFILE).write_text(BASE)
    (folder / "MAINTAINERS").write_text(MAINTAINERS)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "base")
    return folder


@pytest.mark.parametrize("folder", [folder for folder, _ in SERIES], ids=lambda p: p.parent.name)
def test_committed_patch_is_made_from_the_committed_sources(folder: Path) -> None:
    made = selftest_patch(read_sources(BENCH_DIR))
    assert (folder / PATCH_NAME).read_bytes() == made.encode(), (
        "regenerate it: python -m kdelta.kernel.series --bench-dir src/pipe_bench "
        f"--output {folder.relative_to(ROOT) / PATCH_NAME}"
    )


def test_stored_excerpts_are_what_the_files_give() -> None:
    # Object ids depend on the whole file, which is the kernel's; the rest must agree.
    def without_ids(edits: tuple[LineEdit, ...]) -> list[LineEdit]:
        return [replace(edit, old_blob="", new_blob="") for edit in edits]

    assert without_ids(EDITS) == without_ids(LINUX_6_12)


def test_equal_sources_give_equal_bytes_and_each_source_counts() -> None:
    patch = selftest_patch(SOURCES, EDITS)
    assert patch == selftest_patch(SOURCES, EDITS)
    for field in ("bench", "makefile", "gitignore"):
        changed = replace(SOURCES, **{field: getattr(SOURCES, field) + "# x\n"})
        assert selftest_patch(changed, EDITS) != patch


def test_git_am_takes_it_and_every_byte_arrives(tree: Path, tmp_path: Path) -> None:
    patch = tmp_path / PATCH_NAME
    patch.write_text(selftest_patch(SOURCES, EDITS))
    git(tree, "apply", "--check", "--whitespace=error-all", str(patch))
    git(tree, "am", "-q", str(patch))
    added = tree / "tools/testing/selftests/pipe"
    assert (added / "pipe_bench.c").read_text() == SOURCES.bench
    assert (added / "Makefile").read_text() == SOURCES.makefile
    assert (added / ".gitignore").read_text() == SOURCES.gitignore
    old, new = "TARGETS += pid_namespace\n", "TARGETS += pid_namespace\nTARGETS += pipe\n"
    assert (tree / MAKEFILE).read_text() == BASE.replace(old, new)
    assert f"\n{MAINTAINERS_6_12.added}\n" in (tree / "MAINTAINERS").read_text()
    subject = "selftests/pipe: add pipe_bench microbenchmark"
    assert git(tree, "log", "-1", "--format=%s|%an|%ae|%at").strip() == (
        f"{subject}|kdelta authors|kdelta@example.org|1704067200"
    )
    assert "MAINTAINERS" not in git(tree, "log", "-1", "--format=%B")


@pytest.mark.parametrize("lines", [1, 5, 20, 21, 22, 700, 1200])
def test_it_is_what_git_format_patch_writes(tree: Path, tmp_path: Path, lines: int) -> None:
    sources = replace(SOURCES, bench="int x;\n" * lines)
    patch = tmp_path / PATCH_NAME
    patch.write_text(selftest_patch(sources, EDITS))
    git(tree, "am", "-q", str(patch))
    theirs = git(
        tree,
        *("format-patch", "-1", "--stdout", "--zero-commit", "--no-signature"),
        *("--abbrev=12", "--subject-prefix=PATCH 2/2"),
    )
    # git ends a mail with an empty line.
    assert patch.read_text().rstrip("\n") == theirs.rstrip("\n")


def test_a_tree_that_differs_elsewhere_takes_the_stored_excerpt(tree: Path, tmp_path: Path) -> None:
    shifted = "# one more line\n" + BASE + "# the end\n"
    (tree / MAKEFILE).write_text(shifted)
    git(tree, "commit", "-qam", "shift")
    patch = tmp_path / PATCH_NAME
    patch.write_text(selftest_patch(SOURCES))
    git(tree, "am", "-q", str(patch))
    assert "TARGETS += pid_namespace\nTARGETS += pipe\n" in (tree / MAKEFILE).read_text()


def test_blob_ids_are_gits(tree: Path) -> None:
    assert blob_id(BASE) == git(tree, "hash-object", MAKEFILE).strip()
    assert blob_id("") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize(
    ("makefile", "said"),
    [
        (BASE.replace("TARGETS += power", "TARGETS += pipe\nTARGETS += power", 1), "already has"),
        ("all:\n\t@true\n", "no place"),
        (BASE.rstrip("\n"), "newline"),
        (BASE.replace("\n", "\r\n"), "carriage return"),
    ],
)
def test_a_wrong_makefile_is_refused(makefile: str, said: str) -> None:
    with pytest.raises(KdeltaError, match=f"{MAKEFILE}.*{said}"):
        makefile_edit(makefile)


@pytest.mark.parametrize(
    ("maintainers", "said"),
    [
        (MAINTAINERS.replace(ENTRY, f"{ENTRY}{MAINTAINERS_6_12.added}\n"), "already has"),
        ("THE REST\nM:\tnobody\n", "no entry"),
        (MAINTAINERS.rstrip("\n"), "newline"),
    ],
)
def test_a_wrong_maintainers_file_is_refused(maintainers: str, said: str) -> None:
    with pytest.raises(KdeltaError, match=f"MAINTAINERS.*{said}"):
        maintainers_edit(maintainers)


@pytest.mark.parametrize("text", ["", "no newline at the end", "a\r\nb\r\n", "a\0b\n"])
def test_a_source_that_mail_would_harm_is_refused(text: str) -> None:
    with pytest.raises(KdeltaError, match=r"pipe/pipe_bench\.c"):
        selftest_patch(replace(SOURCES, bench=text), EDITS)


def _bench_dir(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pipe_bench.c").write_text(SOURCES.bench)
    (folder / "Makefile.kselftest").write_text(SOURCES.makefile)
    (folder / "gitignore.kselftest").write_text(SOURCES.gitignore)
    return folder


def test_written_file_holds_the_patch(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / PATCH_NAME
    write_selftest_patch(_bench_dir(tmp_path / "bench"), tree, out)
    assert out.read_text() == selftest_patch(SOURCES, EDITS)


def test_command_writes_the_patch_or_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = _bench_dir(tmp_path / "bench"), tmp_path / PATCH_NAME
    argv = ["--bench-dir", str(bench), "--output", str(out)]
    assert main(argv) == 0
    assert out.read_text() == selftest_patch(SOURCES)
    (bench / "gitignore.kselftest").unlink()
    assert main(argv) == 1
    assert "gitignore.kselftest: cannot read" in capsys.readouterr().err
    (bench / "gitignore.kselftest").write_bytes(b"\xff\n")
    assert main(argv) == 1
    assert "not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "patch",
    [folder / name for folder, prealloc in SERIES for name in (prealloc, PATCH_NAME)],
    ids=lambda path: f"{path.parent.parent.name}-{path.name[:4]}",
)
def test_mail_is_well_formed(patch: Path) -> None:
    text = patch.read_text()
    assert text.startswith(f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n")
    mail = email.message_from_string(text.split("\n", 1)[1])
    assert mail["From"] == "kdelta authors <kdelta@example.org>"
    assert mail["Date"] == "Mon, 1 Jan 2024 00:00:00 +0000"
    number = patch.name[3]
    assert re.fullmatch(rf"\[PATCH {number}/2\] \S+: .+", mail["Subject"])
    message, cut, _ = mail.get_payload().partition("\n---\n")
    assert cut
    assert message.endswith("\nSigned-off-by: kdelta authors <kdelta@example.org>")
    assert max(map(len, message.splitlines())) <= 75
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", mail["Subject"].split("] ", 1)[1])
    assert patch.name == f"000{number}-{slug}.patch"


@pytest.mark.parametrize(("folder", "name"), SERIES, ids=["bulk", "loop"])
def test_series_has_two_patches_and_0002_adds_the_benchmark_alone(folder: Path, name: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [name, PATCH_NAME]
    text = (folder / PATCH_NAME).read_text()
    selftests = "tools/testing/selftests"
    assert re.findall(r"^diff --git a/(\S+) ", text, re.M) == [
        "MAINTAINERS",
        f"{selftests}/Makefile",
        f"{selftests}/pipe/.gitignore",
        f"{selftests}/pipe/Makefile",
        f"{selftests}/pipe/pipe_bench.c",
    ]


@pytest.mark.parametrize(("folder", "name"), SERIES, ids=["bulk", "loop"])
def test_0001_touches_the_pipe_code_alone_and_claims_no_figure(
    tmp_path: Path, folder: Path, name: str
) -> None:
    text = (folder / name).read_text()
    assert re.findall(r"^diff --git (.*)$", text, re.M) == ["a/fs/pipe.c b/fs/pipe.c"]
    # Its line counts are right: git refuses a hunk that is not what its header says.
    git(tmp_path, "init", "-q")
    assert git(tmp_path, "apply", "--numstat", str(folder / name)).split()[2] == "fs/pipe.c"
    message = text.split("\n---\n")[0]
    assert "8dcb3060d81d" in message
    assert "__GFP_ACCOUNT" in message
    assert "%" not in message


def _parts(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """The lines of fs/pipe.c that a patch names: the function that allocates, and all others.

    The function goes with its comment. Line numbers and object ids, which follow from the
    text, are left out.
    """
    lines = (folder / name).read_text().split("\n")
    first_hunk = next(n for n, line in enumerate(lines) if line.startswith("@@ "))
    body = [re.sub(r"^@@ .*? @@", "@@", line) for line in lines[first_hunk:]]
    definition = next(n for n, line in enumerate(body) if " pipe_prealloc_fill(" in line)
    start = max(n for n in range(definition) if body[n] == "+/*")
    end = body.index("+}", definition)
    return body[start : end + 1], body[:start] + body[end + 1 :]


def test_bulk_and_loop_differ_in_how_pages_are_allocated_and_in_nothing_else() -> None:
    bulk_fill, bulk_rest = _parts(*BULK)
    loop_fill, loop_rest = _parts(*LOOP)
    assert bulk_rest == loop_rest
    calls = {}
    for series, fill in (("bulk", bulk_fill), ("loop", loop_fill)):
        # A comment may name what the code does not call.
        code = re.sub(r"/\*.*?\*/", "", "\n".join(fill), flags=re.DOTALL)
        calls[series] = re.findall(r"\b(alloc_page\w*)\(", code)
    assert calls == {
        "bulk": ["alloc_pages_bulk_array_mempolicy", "alloc_pages_bulk_array"],
        "loop": ["alloc_page"],
    }
