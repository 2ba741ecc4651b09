# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta series` on a small kernel tree: real git, real mails, and what must be refused."""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdelta.cli import main
from kdelta.patch_files import patch_files
from tests.conftest import SMALL, Project
from tests.integration.documents import commands
from tests.unit.workflow.test_provenance import HOST, image

from .kernel_support import cached_tree

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit" / "report"))
from report_synthetic import Plan, write_results

Captured = pytest.CaptureFixture[str]
TITLE = "fs/pipe: <script>alert(1)</script> & 100% _größer_"
SOURCE = {"id": "5eed", "type": "git", "url": "u", "commit": "5eed", "kernel_version": "6.12.1"}
ME = "Zoë Sender <zoe@example.org>"
PLAN = Plan(
    effects={("idle", "patched"): 1.2, ("idle", "control"): 1.0},
    matrix={"writers": (1, 2), "readers": (1, 3)},
)
# As little of checkpatch as a test needs: it counts the lines that say BAD, and leaves a file.
CHECKPATCH = r"""
my $all = 0;
open(my $out, '>', '.checkpatch-camelcase.date.0') or die; print $out "readCount\n"; close($out);
for my $file (grep { !/^--/ } @ARGV) {
    open(my $in, '<', $file) or die; my @lines = <$in>; my $bad = grep { /^\+.*BAD/ } @lines;
    die "no memory\n" if grep { /^\+.*WORSE/ } @lines;
    print "$file\n", "ERROR: bad\n" x $bad; $all += $bad;
    print "total: $bad errors, 0 warnings, 1 checks, 9 lines checked\n";
}
exit($all ? 1 : 0);
"""


def git(folder: Path, *argv: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    who = ["-c", "user.name=Ada Author", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", *who, *argv], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, f"git {argv}: {done.stdout!r} {done.stderr!r}"
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class Run:
    """A finished run of the small experiment, and a repository of its kernel."""

    project: Project
    folder: Path
    tree: Path
    linux: Path

    @property
    def mails(self) -> Path:
        return self.folder / "report" / "series"

    @property
    def check_file(self) -> dict[str, str]:
        lines = (self.folder / "report" / "series-check.txt").read_text().splitlines()
        return {line[:14].strip(): line[15:] for line in lines}

    def series(self, *extra: str) -> int:
        return main(
            [
                *("--root", str(self.project.root), "series", "--experiment", "experiment.yaml"),
                *("--protocol", "quick", "--run", str(self.folder), *extra),
            ]
        )


def make_patches(linux: Path, folder: Path) -> None:
    """Two patches as `git format-patch` writes them, the second by the placeholder author."""
    pipe = linux / "fs" / "pipe.c"
    pipe.write_text(pipe.read_text().replace("return 3;", "return 33; /* größer */"))
    (linux / "fs" / "new.c").write_text("int brand_new;\n")
    (linux / "fs" / "exec.c").unlink()
    git(linux, "add", "-A")
    git(linux, "commit", "-qsm", "fs/pipe: größer\n\nBecause it is größer.")
    pipe.write_text(pipe.read_text().replace("return 9;", "return 99;"))
    (linux / "Kconfig").chmod(0o755)
    git(linux, "add", "-A")
    placeholder = "kdelta authors <kdelta@example.org>"
    message = f"fs/pipe: more\n\nBecause.\n\nSigned-off-by: {placeholder}"
    git(linux, "commit", "-qm", message, "--author", placeholder)
    shutil.rmtree(folder)
    git(linux, "format-patch", "-q", "-2", "-o", str(folder))
    git(linux, "checkout", "-q", "--detach", "HEAD~2")


@pytest.fixture
def run(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Run:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Zoë Sender\n\temail = zoe@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Not the host's: these tests do not wait for a measurement.
    monkeypatch.setattr("kdelta.host.lock.lock_path", lambda: tmp_path / "lock")
    tree = cached_tree(tmp_path / "cache" / "kdelta").path
    (tree / "scripts").mkdir()
    (tree / "scripts" / "checkpatch.pl").write_text(CHECKPATCH)
    # What a tarball holds although git would ignore or convert it, if it were asked.
    (tree / ".gitignore").write_text("*.o\n*.patch\n")
    (tree / ".gitattributes").write_text("*.txt text\n")
    (tree / "shipped.o").write_bytes(b"\0\1")
    (tree / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    (tree / "link").symlink_to("Kconfig")
    linux = tmp_path / "linux"
    shutil.copytree(tree, linux, symlinks=True)
    git(linux, "init", "-q")
    (linux / ".git" / "info" / "attributes").write_text("* -text\n")
    git(linux, "add", "-A", "-f")
    git(linux, "commit", "-qm", "base")
    make_patches(linux, project.root / "patches" / "series")
    (project.root / "prose.txt").write_text("Dear all,\n\nthis is why.\n")
    project.write(
        {
            **SMALL,
            "title": TITLE,
            "regimes": {"idle": {"title": "idle"}},
            "protocols": {"quick": {"blocks": 4, "duration_s": {"idle": 0.5}}},
            "mail": {"arm": "patched", "prose": "prose.txt", "cc": ["list@example.org"]},
        }
    )
    folder = tmp_path / "results" / "small" / "quick"
    write_results(PLAN, folder)
    write_records(folder, project)
    return Run(project, folder, tree, linux)


def write_records(folder: Path, project: Project) -> None:
    """The manifest, and the record of the source."""
    experiment = project.load()
    images: dict[str, Any] = {}
    for name, arm in experiment.arms.items():
        found = [
            {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for file in patch_files(arm, project.root)
        ]
        patches = [{**patch, "subject": "a subject"} for patch in found]
        images[name] = {**image(name), "source": SOURCE, "patches": patches}
    facts = ("host", "vcpus", "overcommitted", "memory_mib", "acceleration")
    manifest = {
        "run_id": "0123456789abcdef",
        "written_at": "2026-05-15T11:02:03+00:00",
        "kdelta": {"version": "0.1.0"},
        "argv": "snakemake",
        "experiment": json.loads(experiment.model_dump_json(by_alias=True)),
        "kernels": images,
        "workload": {},
        "acceleration": HOST["acceleration"],
        "hosts": [{name: HOST[name] for name in facts}],
        "blocks": [],
        "raw_sha256": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "kernels").mkdir()
    (folder.parent / "kernels" / "source.json").write_text(json.dumps({"schema": 1, **SOURCE}))


def test_the_mails_give_the_measured_tree(run: Run, capsys: Captured) -> None:
    assert run.series() == 0
    said = capsys.readouterr().err
    cover, *patches = sorted(run.mails.iterdir())
    assert cover.name == "0000-cover-letter.patch"
    assert [path.name[:5] for path in patches] == ["0001-", "0002-"]
    # By hand, in a repository of its own: what a maintainer does with the mails.
    base = git(run.linux, "rev-parse", "HEAD^{tree}")
    git(run.linux, "am", *map(str, patches))
    tree = git(run.linux, "rev-parse", "HEAD^{tree}")
    assert run.check_file["source tree"] == base
    assert run.check_file["measured tree"].split()[0] == tree
    assert run.check_file["mailed tree"].split()[0] == tree
    assert run.check_file["result"] == "equal"
    assert f"tree: {tree}, as measured" in said
    assert "checkpatch --strict: 0 errors, 0 warnings, 2 checks in 2 patches" in said
    by, subject, *message = git(run.linux, "log", "-1", "--format=%an%n%B", "HEAD~1").splitlines()
    assert (by, subject) == ("Ada Author", "fs/pipe: größer")
    ada = "Signed-off-by: Ada Author <ada@example.org>"
    assert message == ["", "Because it is größer.", "", ada, f"Signed-off-by: {ME}"]
    by, *message = git(run.linux, "log", "-1", "--format=%an%n%B").splitlines()
    assert by == "Zoë Sender"
    assert message == ["fs/pipe: more", "", "Because.", "", f"Signed-off-by: {ME}"]


def test_the_mails_are_what_a_mail_program_takes(run: Run) -> None:
    assert run.series() == 0
    mails = [
        email.message_from_bytes(path.read_bytes().split(b"\n", 1)[1], policy=email.policy.default)
        for path in sorted(run.mails.iterdir())
    ]
    assert [mail["Subject"] for mail in mails] == [
        f"[PATCH 0/2] {TITLE}",
        "[PATCH 1/2] fs/pipe: größer",
        "[PATCH 2/2] fs/pipe: more",
    ]
    assert {mail["From"].addresses[0].display_name for mail in mails} == {"Zoë Sender"}
    assert {mail["Cc"] for mail in mails} == {"list@example.org"}
    assert [mail["Date"].datetime.second for mail in mails][::2] == [3, 5]
    assert all(mail["Message-Id"] is None and not mail.defects for mail in mails)
    cover = mails[0].get_content()
    assert cover.startswith("Dear all,\n\nthis is why.\n\n== EMULATED (TCG)")
    assert "---\nbase-commit: 5eed\n\nAda Author (1):\n" in cover
    assert "Ada Author (1):\n  fs/pipe: größer\n\nZoë Sender (1):\n  fs/pipe: more\n" in cover
    assert " mode change 100644 => 100755 Kconfig\n" in cover
    assert " delete mode 100644 fs/exec.c\n create mode 100644 fs/new.c\n" in cover


def test_git_send_email_takes_the_folder(run: Run) -> None:
    where = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    if not (Path(where.stdout.strip()) / "git-send-email").exists():
        pytest.skip("git send-email is not installed (package git-email)")
    assert run.series() == 0
    (shown,) = commands("git send-email ")
    words = shown.replace("LIST", "list@example.org").split()[:-1]
    done = subprocess.run(
        [*words, "--confirm=never", "--quiet", *map(str, sorted(run.mails.iterdir()))],
        cwd=run.linux,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sent = [line for line in done.stdout.splitlines() if line.startswith("Dry-Sent")]
    assert [line.partition("[PATCH ")[2][:3] for line in sent] == ["0/2", "1/2", "2/2"]


def test_the_same_run_gives_the_same_mails(run: Run) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.mails.iterdir()}

    assert run.series() == 0
    first = contents()
    (run.mails / "0009-left-over.patch").write_text("of another version\n")
    assert run.series() == 0
    assert contents() == first


def test_the_kernel_source_is_left_as_it_is(run: Run) -> None:
    def state() -> dict[str, tuple[int, int]]:
        found = sorted(run.tree.rglob("*"))
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in found}

    before = state()
    assert run.series() == 0
    assert state() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return 99;", "return 98;", "gives tree"),
        ("\n int pipe_9(void)", "\n int pipe_0(void)", "git am does not apply the mails"),
    ],
)
def test_tampered_mails_are_refused(
    run: Run, capsys: Captured, old: str, new: str, said: str
) -> None:
    assert run.series() == 0
    assert run.series("--check") == 0
    second = sorted(run.mails.iterdir())[2]
    text = second.read_text()
    assert old in text
    second.write_text(text.replace(old, new))
    capsys.readouterr()
    assert run.series("--check") == 1
    assert said in capsys.readouterr().err
    if "tree" in said:
        assert run.check_file["result"] == "DIFFERENT"
    # Making them anew puts it right.
    assert run.series() == 0
    assert run.check_file["result"] == "equal"
    assert second.read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("] fs/pipe: more", "] fs/pipe: less", "patch 2: its subject is 'fs/pipe: more', in"),
        ("\n\nBecause.", "\n\nFrom: B <b@example.org>\n\nBecause.", "patch 2: its author is"),
    ],
)
def test_another_message_is_told(run: Run, capsys: Captured, old: str, new: str, said: str) -> None:
    assert run.series() == 0
    assert run.check_file["messages"] == "subjects and authors as measured"
    second = sorted(run.mails.iterdir())[2]
    text = second.read_text()
    assert old in text
    second.write_text(text.replace(old, new))
    assert run.series("--check") == 1
    assert said in capsys.readouterr().err
    assert said in run.check_file["messages"]
    assert run.check_file["result"] == "DIFFERENT"


def test_a_mail_inside_a_mail_is_refused(run: Run, capsys: Captured) -> None:
    assert run.series() == 0
    _, first, second = sorted(run.mails.iterdir())
    for between in ("\n", "\n>"):
        text = first.read_text()
        first.write_text(text + between + second.read_text())
        assert run.series("--check") == 1
        assert "another mail in this mail's body" in capsys.readouterr().err
        first.write_text(text)


def test_a_mail_too_few_is_told(run: Run, capsys: Captured) -> None:
    assert run.series() == 0
    sorted(run.mails.iterdir())[2].unlink()
    assert run.series("--check") == 1
    assert run.check_file["patches"] == "2 measured, 1 mailed"
    assert "2 patches were measured, and 1 are mailed" in run.check_file["messages"]


def test_one_file_of_several_commits(run: Run) -> None:
    folder = run.project.root / "patches/series"
    files = sorted(folder.iterdir())
    (folder / "v1_series.mbx").write_bytes(b"\n".join(file.read_bytes() for file in files))
    for file in files:
        file.unlink()
    shutil.rmtree(run.folder.parent / "kernels")
    write_records(run.folder, run.project)
    assert run.series() == 0
    assert [path.name for path in sorted(run.mails.iterdir())] == [
        "0000-cover-letter.patch",
        "0001-fs-pipe-gr-er.patch",
        "0002-fs-pipe-more.patch",
    ]
    assert run.check_file["patches"] == "2 measured, 2 mailed"


def test_words_edited_by_hand_are_no_matter(run: Run) -> None:
    assert run.series() == 0
    first = sorted(run.mails.iterdir())[1]
    edited = first.read_text().replace("Because it is größer.", "Because it is much größer.")
    assert edited != first.read_text()
    first.write_text(edited)
    assert run.series("--check") == 0
    assert first.read_text() == edited


def test_a_patch_changed_since_it_was_measured_is_refused(run: Run, capsys: Captured) -> None:
    patch = sorted((run.project.root / "patches/series").iterdir())[1]
    patch.write_text(patch.read_text().replace("return 99;", "return 98;"))
    assert run.series() == 1
    said = capsys.readouterr().err
    assert "its patches are not those that were measured (changed since:" in said
    assert patch.name in said
    assert not run.mails.exists()


def test_another_source_than_the_measured_one_is_refused(run: Run, capsys: Captured) -> None:
    manifest = json.loads((run.folder / "manifest.json").read_text())
    manifest["kernels"]["patched"]["source"] = {"id": "another"}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    assert run.series() == 1
    assert "measured on source another" in capsys.readouterr().err


def test_an_arm_that_is_not_in_the_run(run: Run, capsys: Captured) -> None:
    manifest = json.loads((run.folder / "manifest.json").read_text())
    del manifest["kernels"]["patched"]
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    assert run.series() == 1
    assert "arm patched: not in this run" in capsys.readouterr().err


def test_no_identity(run: Run, capsys: Captured) -> None:
    Path(os.environ["GIT_CONFIG_GLOBAL"]).write_text("")
    assert run.series() == 1
    assert 'git config --global user.name "Your Name"' in capsys.readouterr().err


def test_a_folder_of_something_else_is_not_replaced(run: Run, capsys: Captured) -> None:
    run.mails.mkdir(parents=True)
    (run.mails / "thesis.tex").write_text("years of work")
    assert run.series() == 1
    assert "thesis.tex, which is no mail" in capsys.readouterr().err
    assert (run.mails / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("word", "summary", "told"),
    [
        ("BAD", "checkpatch --strict: 1 errors, 0 warnings, 1 checks in 1 patches", "ERROR: bad"),
        ("WORSE", "in 1 patches; 1 not checked to the end (status ", "no memory"),
    ],
)
def test_checkpatch_errors_fail_and_leave_the_mails(
    run: Run, capsys: Captured, word: str, summary: str, told: str
) -> None:
    folder = run.project.root / "patches/series"
    pipe = run.linux / "fs" / "pipe.c"
    pipe.write_text(pipe.read_text().replace("return 3;", f"return 3; /* {word} */"))
    git(run.linux, "commit", "-qam", "fs/pipe: bad")
    shutil.rmtree(folder)
    git(run.linux, "format-patch", "-q", "-1", "-o", str(folder))
    shutil.rmtree(run.folder.parent / "kernels")
    write_records(run.folder, run.project)
    assert run.series() == 1
    said = capsys.readouterr().err
    assert summary in said
    assert told in said
    assert "The mails are kept" in said
    assert len(list(run.mails.iterdir())) == 2
    assert told in (run.folder / "report" / "checkpatch.txt").read_text()
    assert run.series("--no-checkpatch-errors") == 0


def test_a_source_without_checkpatch(run: Run, capsys: Captured) -> None:
    (run.tree / "scripts" / "checkpatch.pl").unlink()
    assert run.series() == 0
    assert "not run: this kernel source has no scripts/checkpatch.pl" in capsys.readouterr().err


def test_a_second_version(run: Run) -> None:
    data = yaml.safe_load(run.project.file.read_text())
    data["mail"] |= {"version": 2, "prefix": "RFC PATCH"}
    run.project.write(data)
    assert run.series() == 0
    assert sorted(path.name for path in run.mails.iterdir()) == [
        "v2-0000-cover-letter.patch",
        "v2-0001-fs-pipe-gr-er.patch",
        "v2-0002-fs-pipe-more.patch",
    ]
    assert (
        b"\nSubject: [RFC PATCH v2 2/2] fs/pipe: more\n"
        in (run.mails / "v2-0002-fs-pipe-more.patch").read_bytes()
    )
