# SPDX-License-Identifier: GPL-2.0-only
"""The kernel stage on the real kernel: mistakes, reproducibility, the series in the tree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kdelta.cache import cache_root
from kdelta.kernel.source import restore
from kdelta.mail.checkpatch import folder_beside

from .conftest import ROOT, Project, environment, tool


def kernel_tree(project: Project) -> Path:
    record = json.loads((project.results / "kernels" / "source.json").read_text())
    return restore(record, cache_root()).path


def build_argv(project: Project, arm: str, output: Path) -> list[str]:
    return [
        "build",
        "--experiment",
        "config/experiments/small.yaml",
        "--arm",
        arm,
        "--source",
        str(project.results / "kernels" / "source.json"),
        "--acceleration",
        str(project.results / "acceleration.json"),
        "--output",
        str(output),
        "--log",
        str(output.parent / "build.log"),
    ]


def build(project: Project, arm: str, output: Path) -> subprocess.CompletedProcess[str]:
    return project.kdelta(*build_argv(project, arm, output))


def one_message(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a failed command, which has to be the only one."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith("kdelta: ")]
    assert len(messages) == 1, done.stderr
    return done.stderr[done.stderr.index(messages[0]) :]


def with_patch(project: Project, tmp_path: Path, old: str, new: str) -> None:
    """Give the patched arm a one-line change of fs/pipe.c instead of its series."""
    tree = kernel_tree(project)
    before, after = tmp_path / "a/fs/pipe.c", tmp_path / "b/fs/pipe.c"
    for path in (before, after):
        path.parent.mkdir(parents=True)
    text = (tree / "fs/pipe.c").read_text()
    assert old in text
    before.write_text(text)
    after.write_text(text.replace(old, new, 1))
    diff = subprocess.run(
        ["diff", "-u", "a/fs/pipe.c", "b/fs/pipe.c"], cwd=tmp_path, capture_output=True, text=True
    ).stdout
    patch = project.root / "patches" / "one-line.patch"
    patch.write_text(diff)
    project.write_experiment(
        {
            "arms": {
                "baseline": {"title": "as it is"},
                "patched": {"title": "one line", "patches": ["patches/one-line.patch"]},
            }
        }
    )


def test_an_arm_built_again_is_bit_identical(copied: Project, tmp_path: Path) -> None:
    """Another arm is built in between, and the image's cache entry is taken away."""
    record = json.loads((copied.results / "kernels/baseline/image.json").read_text())
    first = hashlib.sha256((copied.results / "kernels/baseline/vmlinuz").read_bytes()).hexdigest()
    assert first == record["image_sha256"]
    entry = cache_root() / "images" / record["key"]
    assert entry.is_dir()
    shutil.rmtree(entry)
    done = build(copied, "baseline", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    again = hashlib.sha256((tmp_path / "again/vmlinuz").read_bytes()).hexdigest()
    assert again == first


def test_a_compile_error_is_one_message_with_the_first_error(
    copied: Project, tmp_path: Path
) -> None:
    with_patch(copied, tmp_path, "static ssize_t\npipe_write(", "static ssize_typo_t\npipe_write(")
    message = one_message(build(copied, "patched", tmp_path / "out"))
    assert "patched" in message
    assert "fs/pipe.c" in message
    assert "ssize_typo_t" in message
    assert "build.log" in message
    assert (tmp_path / "build.log").is_file()


def test_an_option_that_does_not_take_is_named(copied: Project, tmp_path: Path) -> None:
    fragment = copied.root / "kernel-configs" / "impossible.config"
    # Needs CONFIG_MODULES, which an allnoconfig kernel does not have.
    fragment.write_text("CONFIG_MODULE_SIG=y\n")
    copied.write_experiment(
        {
            "arms": {
                "baseline": {"title": "as it is"},
                "patched": {
                    "title": "impossible",
                    "fragments": ["kernel-configs/impossible.config"],
                },
            }
        }
    )
    message = one_message(build(copied, "patched", tmp_path / "out"))
    assert "CONFIG_MODULE_SIG" in message
    assert "impossible.config:1" in message


def test_a_patch_that_does_not_apply_names_the_hunk(copied: Project, tmp_path: Path) -> None:
    patch = next((copied.root / "patches/pipe-prealloc/linux-6.12").glob("0001-*.patch"))
    text = patch.read_text()
    patch.write_text(
        text.replace(" \tunsigned int mask", " \tunsigned int masque").replace(
            " \tmutex_lock(&pipe->mutex);", " \tmutex_luck(&pipe->mutex);"
        )
    )
    assert patch.read_text() != text
    message = one_message(build(copied, "bulk", tmp_path / "out"))
    assert patch.name in message
    assert "hunk" in message.lower()
    assert "fs/pipe.c" in message


def test_unknown_package_and_missing_commit(copied: Project) -> None:
    def fetch(source: dict[str, str]) -> str:
        kernel = {
            "source": source,
            "config": {"base": "allnoconfig", "fragments": ["kernel-configs/guest.config"]},
        }
        copied.write_experiment({"kernel": kernel})
        done = copied.kdelta(
            "fetch",
            "--experiment",
            "config/experiments/small.yaml",
            "--output",
            str(copied.root / "source.json"),
        )
        assert not (copied.root / "source.json").exists()
        return one_message(done)

    assert "linux-source-9.99" in fetch({"type": "debian", "package": "linux-source-9.99"})
    commit = "0123456789" * 4
    assert commit in fetch({"type": "git", "url": str(ROOT), "commit": commit})


def require_clean(tree: Path, *arguments: str) -> None:
    """The kernel's own style checker has nothing to say."""
    with folder_beside(tree) as folder:
        done = subprocess.run(
            ["perl", f"{tree}/scripts/checkpatch.pl", f"--root={tree}", "--strict", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert "0 errors, 0 warnings, 0 checks" in done.stdout, done.stdout


@pytest.mark.parametrize("topic", ["pipe-prealloc", "pipe-prealloc-loop"])
def test_series_is_clean_and_builds_in_the_tree(
    finished: Project, tmp_path: Path, topic: str
) -> None:
    """Checkpatch --strict, `git am`, and the selftest's build, on the kernel's own tools."""
    tree = kernel_tree(finished)
    patches = sorted((ROOT / "patches" / topic / "linux-6.12").glob("*.patch"))
    assert len(patches) == 2
    for patch in patches:
        require_clean(tree, str(patch))
    require_clean(tree, "--file", str(ROOT / "workloads/pipe_bench/pipe_bench.c"))

    # Only what the series and the selftest's Makefiles touch; a whole tree takes minutes.
    copy = tmp_path / "linux"
    selftests = [file for file in (tree / "tools/testing/selftests").iterdir() if file.is_file()]
    for file in (tree / "MAINTAINERS", tree / "Makefile", tree / "fs/pipe.c", *selftests):
        target = copy / file.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    for name in ("scripts", "tools/scripts", "tools/build", "tools/include", "include/uapi"):
        shutil.copytree(tree / name, copy / name, symlinks=True)
    identity = {
        **os.environ,
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.org",
    }

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=copy, env=identity, check=True, capture_output=True)

    git("init", "-q")
    git("add", "-f", "MAINTAINERS", "fs", "tools/testing")
    git("commit", "-q", "-m", "base")
    git("am", *[str(patch) for patch in patches])
    done = subprocess.run(
        ["make", "-C", "tools/testing/selftests", "TARGETS=pipe"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (copy / "tools/testing/selftests/pipe/pipe_bench").is_file()


def test_ctrl_c_in_a_build_leaves_nothing_running_and_a_new_start_completes(
    copied: Project, tmp_path: Path
) -> None:
    with_patch(copied, tmp_path, "	ssize_t ret = 0;", "	ssize_t ret = (ssize_t)0;")
    log = tmp_path / "build.log"
    argv = build_argv(copied, "patched", tmp_path / "out")
    process = subprocess.Popen(
        [tool("kdelta"), *argv],
        cwd=copied.root,
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (log.is_file() and "CC " in log.read_text()):
        assert process.poll() is None, "the build ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr
    workspaces = str(cache_root() / "workspaces")
    running = subprocess.run(["pgrep", "-f", f"make.*{workspaces}"], capture_output=True, text=True)
    assert running.stdout == ""
    assert not (tmp_path / "out" / "image.json").exists()

    done = copied.kdelta(*argv)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "vmlinuz").is_file()
