# SPDX-License-Identifier: GPL-2.0-only
"""The patches that ship: their form, what sets them apart, and the benchmark's sources in them."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kdelta.kernel.patches import read_patches
from tests.conftest import CHECKOUT

FOLDER = "tools/testing/selftests/pipe"
SOURCES = {
    "pipe_bench.c": "pipe_bench.c",
    "Makefile": "Makefile.kselftest",
    ".gitignore": "gitignore.kselftest",
}
PATCH_NAME = "0002-selftests-pipe-add-pipe_bench-microbenchmark.patch"
BULK = (
    CHECKOUT / "patches/pipe-prealloc/linux-6.12",
    "0001-fs-pipe-bulk-pre-allocate-pages-outside-pipe-mutex.patch",
)
LOOP = (
    CHECKOUT / "patches/pipe-prealloc-loop/linux-6.12",
    "0001-fs-pipe-pre-allocate-pages-singly-outside-pipe-mutex.patch",
)
SERIES = (BULK, LOOP)
PATCHES = sorted((CHECKOUT / "patches").glob("*/*/0002-selftests-pipe-*.patch"))


def git_apply(patch: Path, folder: Path) -> None:
    """Make the selftest's files that a patch adds."""
    arguments = ["git", "apply", f"--include={FOLDER}/*", str(patch)]
    subprocess.run(arguments, cwd=folder, check=True, env={"PATH": "/usr/bin:/bin"})


def test_all_series_carry_the_same_benchmark() -> None:
    assert len({patch.read_bytes() for patch in PATCHES}) == 1


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.parts[-3])
def test_a_selftest_patch_has_the_committed_sources(patch: Path, tmp_path: Path) -> None:
    (read,) = read_patches([patch])
    assert [commit.subject for commit in read.commits] == [
        "selftests/pipe: add pipe_bench microbenchmark"
    ]
    git_apply(patch, tmp_path)
    for name, source in SOURCES.items():
        made = (tmp_path / FOLDER / name).read_bytes()
        wanted = (CHECKOUT / "workloads/pipe_bench" / source).read_bytes()
        assert made == wanted, "run patches/make-selftest-patch.sh"


def _kernel_with(patch: Path, folder: Path) -> None:
    """As much of a kernel as the patch has to find: the lines around what it changes."""
    text = patch.read_text()
    hunk = re.compile(
        r"^--- a/(\S+)\n\+\+\+ .*\n@@ -(\d+),.* @@ ?(.*)\n((?:[ +-].*\n)+)", re.MULTILINE
    )
    for name, line, before, lines in hunk.findall(text):
        context = [line[1:] for line in lines.splitlines() if line.startswith(" ")]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        padding = [""] * (int(line) - 2)
        (folder / name).write_text("\n".join([*padding, before, *context, ""]))


@pytest.mark.parametrize("changed", ["", "/* a line more */\n"])
def test_the_script_makes_the_selftest_patch(tmp_path: Path, changed: str) -> None:
    _kernel_with(PATCHES[0], tmp_path / "linux")
    for folder in ("patches", "workloads/pipe_bench"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    source = tmp_path / "workloads/pipe_bench/pipe_bench.c"
    source.write_text(source.read_text() + changed)
    script = tmp_path / "patches/make-selftest-patch.sh"
    subprocess.run([script, tmp_path / "linux"], check=True, capture_output=True)
    made = sorted((tmp_path / "patches").glob("*/*/0002-*"))
    assert [path.relative_to(tmp_path) for path in made] == [
        path.relative_to(CHECKOUT) for path in PATCHES
    ]
    assert len({path.read_bytes() for path in made}) == 1
    text = made[0].read_text()
    if changed:
        assert f"+{changed}" in text
        git_apply(made[0], tmp_path)
        assert (tmp_path / FOLDER / "pipe_bench.c").read_text() == source.read_text()
    else:
        # All but the hashes of two files of which only a part is here.
        def without(text: str) -> str:
            return re.sub(r"^index \w+\.\.\w+ 100644$", "", text, flags=re.MULTILINE)

        assert without(text) == without(PATCHES[0].read_text())


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
def test_0001_touches_the_pipe_code_alone_and_claims_no_figure(folder: Path, name: str) -> None:
    text = (folder / name).read_text()
    assert re.findall(r"^diff --git (.*)$", text, re.M) == ["a/fs/pipe.c b/fs/pipe.c"]
    # Its line counts are right: git refuses a hunk that is not what its header says.
    assert read_patches([folder / name])[0].paths == {"fs/pipe.c"}
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
