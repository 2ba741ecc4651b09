# SPDX-License-Identifier: GPL-2.0-only
"""What the cache keeps and what goes: the choice, and real folders used by real processes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.cache import (
    USED,
    discard,
    in_use,
    last_used_ns,
    make_entry,
    say_who_uses,
    take_away,
    use,
)
from kdelta.cli import main
from kdelta.pruning import COMPILER, LEFTOVER, Entry, choose, entries

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
KIB = 2**10


def entry(number: int, used_ns: int, size: int, **more: str) -> Entry:
    return Entry("images", Path(f"/c/images/{number}"), "", "", used_ns, size, **more)


@st.composite
def caches(draw: st.DrawFn) -> list[Entry]:
    """Entries of any age and size, some in use or left over, some made of a source among them."""
    found = []
    for number in range(draw(st.integers(0, 12))):
        used, size = draw(st.integers(0, 20)), draw(st.integers(0, 50))
        kept = draw(st.sampled_from(["", "", "", "in use"]))
        kind = draw(st.sampled_from(["images", "images", LEFTOVER]))
        found.append(Entry(kind, Path(f"/c/{number}"), "", "", used, size, kept))
    for number in range(draw(st.integers(0, 3))):
        path = Path(f"/c/sources/{number}")
        built = [
            Entry("workspaces", Path(f"/c/w/{number}/{i}"), "", "", used, size, kept, path)
            for i, (used, size, kept) in enumerate(
                draw(
                    st.lists(
                        st.tuples(
                            st.integers(0, 20), st.integers(0, 50), st.sampled_from(["", "in use"])
                        ),
                        max_size=3,
                    )
                )
            )
        ]
        # As `entries` makes it: as young as what was made of it, and in use with it.
        used = max([draw(st.integers(0, 20)), *(one.used_ns for one in built)])
        kept = next((one.kept for one in built if one.kept), "")
        found += [*built, Entry("sources", path, "", "", used, draw(st.integers(0, 50)), kept)]
    return draw(st.permutations(found))


LIMITS = st.none() | st.integers(0, 20)
SIZES = st.none() | st.integers(0, 300)


@given(caches(), LIMITS, SIZES)
def test_what_is_in_use_stays_and_what_is_old_goes(
    kept: list[Entry], before: int | None, most: int | None
) -> None:
    going = choose(kept, before_ns=before, most_bytes=most)
    assert len({one.path for one in going}) == len(going)
    assert not any(one.kept for one in going)
    for one in kept:
        if not one.kept and (one.kind == LEFTOVER or (before is not None and one.used_ns < before)):
            assert one in going
    if before is None and most is None:
        assert all(one.kind == LEFTOVER for one in going)


@given(caches(), LIMITS, SIZES)
def test_the_size_is_kept_to_and_no_more_goes_than_has_to(
    kept: list[Entry], before: int | None, most: int | None
) -> None:
    going = choose(kept, before_ns=before, most_bytes=most)
    left = sum(one.size for one in kept if one not in going)
    if most is not None:
        free = [one for one in kept if not one.kept and one not in going]
        assert left <= most or not free
        spared = [one for one in going if one.kind != LEFTOVER and not _old(one, before)]
        if spared:  # the last of them had to go: with it there was too much
            assert left + spared[-1].size > most
            assert all(one.used_ns >= spared[-1].used_ns for one in free)


def _old(one: Entry, before: int | None) -> bool:
    return before is not None and one.used_ns < before


@given(caches(), LIMITS, SIZES)
def test_a_source_goes_after_all_that_was_made_of_it(
    kept: list[Entry], before: int | None, most: int | None
) -> None:
    going = choose(kept, before_ns=before, most_bytes=most)
    for place, one in enumerate(going):
        if one.kind == "sources":
            made = [other for other in kept if other.made_of == one.path]
            assert all(other in going[:place] for other in made)


def fill(folder: Path, size: int = 4 * KIB) -> None:
    (folder / "content").write_bytes(b"x" * size)


def made(path: Path, *, days_ago: float = 0, size: int = 4 * KIB) -> Path:
    """An entry that nobody uses: another process made it, so many days ago."""
    path.mkdir(parents=True)
    fill(path, size)
    (path / USED).touch()
    set_age(path, days_ago)
    return path


def set_age(path: Path, days_ago: float) -> None:
    then = time.time_ns() - int(days_ago * DAY_NS)
    os.utime(path / USED, ns=(then, then))


USER = """\
import sys
from pathlib import Path
from kdelta.cache import use
print(use(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@contextmanager
def used_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses an entry meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_what_another_process_uses_is_not_pruned_until_that_ends(tmp_path: Path) -> None:
    path = made(tmp_path / "images" / "key", days_ago=40)
    looked_at = last_used_ns(path)
    with used_elsewhere(path):
        assert in_use(path)
        assert [one.kept for one in entries(tmp_path)] == ["in use"]
        assert not discard(path, last_used_ns(path))
        assert (path / "content").exists()
    assert not in_use(path)  # it was killed, and cleaned nothing up
    assert not discard(path, looked_at)  # used since it was looked at
    assert discard(path, last_used_ns(path))
    assert list(path.parent.iterdir()) == []


def test_use_is_noted_with_its_time_and_for_whom(tmp_path: Path) -> None:
    path = made(tmp_path / "images" / "key", days_ago=40)
    say_who_uses("an experiment, in a checkout")
    try:
        before = time.time_ns()
        assert use(path)
    finally:
        say_who_uses("")
    (found,) = entries(tmp_path)
    # File systems round time stamps, and the kernel's clock ticks.
    assert found.used_ns > before - 10**9
    assert found.whose == "an experiment, in a checkout"
    assert found.kept == "in use"
    assert use(path)
    assert not use(tmp_path / "images" / "other")


def test_an_entry_of_an_earlier_version_has_the_age_of_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "images" / "key"
    path.mkdir(parents=True)
    fill(path)
    then = time.time_ns() - 40 * DAY_NS
    os.utime(path, ns=(then, then))
    (found,) = entries(tmp_path)
    assert found.used_ns == then
    assert discard(path, found.used_ns)
    assert not path.exists()


def test_who_makes_an_entry_uses_it_from_the_beginning(tmp_path: Path) -> None:
    seen = []

    def make(folder: Path) -> None:
        fill(folder)
        seen.append([in_use(folder), discard(folder, time.time_ns() + DAY_NS)])

    path = make_entry(tmp_path / "images" / "key", make)
    assert seen == [[True, False]]
    assert in_use(path)
    assert not discard(path, time.time_ns() + DAY_NS)


def test_only_what_nobody_makes_any_more_is_left_over(tmp_path: Path) -> None:
    images = tmp_path / "images"
    old = made(images / ".dead.abc.tmp")
    begun, forgotten = images / ".begun.abc.tmp", images / ".forgotten.abc.tmp"
    for folder in (begun, forgotten):
        folder.mkdir()
    then = time.time_ns() - 2 * DAY_NS
    os.utime(forgotten, ns=(then, then))
    with used_elsewhere(made(images / ".making.abc.tmp")):
        found = entries(tmp_path)
        assert {one.path for one in choose(found)} == {old, forgotten}


def test_files_that_a_build_folder_shares_are_the_sources(tmp_path: Path) -> None:
    source = made(tmp_path / "sources" / "id", days_ago=40)
    for name in ("Kconfig", "large"):
        (source / "tree").mkdir(exist_ok=True)
        (source / "tree" / name).write_bytes(b"x" * 200 * KIB)
    record = {"type": "git", "url": "u", "commit": "c" * 40, "kernel_version": "6.12.1"}
    (source / "source.json").write_text(json.dumps(record))
    workspace = made(tmp_path / "workspaces" / "key", days_ago=10)
    shutil.copytree(source / "tree", workspace / "src", copy_function=os.link)
    found = {one.kind: one for one in entries(tmp_path)}
    assert found["sources"].size >= 400 * KIB
    assert found["workspaces"].size < 100 * KIB
    assert found["workspaces"].made_of == source
    assert found["workspaces"].what == "to build Linux 6.12.1 (u cccccccccccc)"
    assert found["sources"].used_ns == found["workspaces"].used_ns
    (source / "tree" / "Kconfig").unlink()  # as if it had been fetched anew
    found = {one.kind: one for one in entries(tmp_path)}
    assert found["workspaces"].made_of is None
    assert found["sources"].used_ns < found["workspaces"].used_ns


# What two checkouts do: one takes an entry whenever it is there, the other makes it and reads it.
PRUNER = """\
import sys
from pathlib import Path
from kdelta.cache import discard, last_used_ns
entry, taken = Path(sys.argv[1]), 0
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    try:
        taken += discard(entry, last_used_ns(entry))
    except FileNotFoundError:
        pass
print(taken, flush=True)
"""
MAKER = """\
import sys
from pathlib import Path
from kdelta.cache import make_entry
made = []
def make(folder):
    made.append(folder)
    for number in range(20):
        (folder / str(number)).write_text("whole")
entry = make_entry(Path(sys.argv[1]), make)
assert [(entry / str(number)).read_text() for number in range(20)] == ["whole"] * 20
print(len(made))
"""


def test_who_uses_an_entry_that_another_prunes_makes_it_anew_and_reads_it_whole(
    tmp_path: Path,
) -> None:
    path, stop = tmp_path / "images" / "key", tmp_path / "stop"
    with subprocess.Popen(
        [sys.executable, "-c", PRUNER, path, stop], stdout=subprocess.PIPE, text=True
    ) as pruner:
        try:
            assert pruner.stdout is not None
            assert pruner.stdout.readline() == "ready\n"
            counts = []
            for _ in range(5):
                done = subprocess.run(
                    [sys.executable, "-c", MAKER, path], capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr
                counts.append(int(done.stdout))
        finally:
            stop.touch()
        assert int(pruner.stdout.readline()) > 0
    assert sum(counts) > 1  # it was made more than once, for it had been taken


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with entries of three ages, the oldest of them in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "kdelta"
    for name, days in (("a", 50), ("b", 40), ("c", 1)):
        made(folder / "images" / name, days_ago=days, size=100 * KIB)
    return folder


def left(cache: Path) -> set[str]:
    return {path.name for path in (cache / "images").iterdir()}


def test_the_verb_tells_first_and_prunes_when_asked(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache"]) == 0
    assert "would go" not in capsys.readouterr().out
    assert main(["cache", "--older-than", "30d"]) == 0
    told = capsys.readouterr().out
    assert [line.split()[-3:] for line in told.splitlines() if "[would go]" in line] == [
        ["images/b", "[would", "go]"],
        ["images/a", "[would", "go]"],
    ]
    assert left(cache) == {"a", "b", "c"}
    with used_elsewhere(cache / "images" / "a"):
        set_age(cache / "images" / "a", 50)
        assert main(["cache", "--prune", "--older-than", "30d"]) == 0
        assert left(cache) == {"a", "c"}
        # A megabyte would be enough for all of them, a kilobyte is not for what is in use.
        assert main(["cache", "--prune", "--max-size", "1M"]) == 0
        assert left(cache) == {"a", "c"}
        assert main(["cache", "--prune", "--max-size", "1K"]) == 0
        assert left(cache) == {"a"}
    said = capsys.readouterr()
    assert "freed: 1 folder, 1" in said.out
    assert "are left: what is in use stays" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prune"], "say what may go: --older-than 30d, --max-size 20G"),
        (["--older-than", "3 moons"], "'3 moons' is not an age; write for example 30d"),
        (["--max-size", "much"], "'much' is not a size; write for example 1G"),
    ],
)
def test_what_cannot_be_meant_is_one_message(
    words: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["cache", *words])
    except SystemExit as error:
        status = error.code
    assert status != 0
    assert message in capsys.readouterr().err
    assert left(cache) == {"a", "b", "c"}


def test_a_cache_that_is_not_there_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert main(["cache", "--prune", "--older-than", "0s"]) == 0
    assert "freed: 0 folders, 0 KiB" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("ccache") is None, reason="needs ccache")
def test_the_compilers_cache_is_ccaches_to_prune(cache: Path) -> None:
    (cache / COMPILER).mkdir()
    (cache / "x.c").write_text("int x;\n")
    env = {**os.environ, "CCACHE_DIR": str(cache / COMPILER)}
    command = ["ccache", "gcc", "-c", cache / "x.c", "-o", cache / "x.o"]
    subprocess.run(command, env=env, check=True)
    objects = {path for path in (cache / COMPILER).rglob("*R") if path.is_file()}
    assert objects
    (compiler,) = (one for one in entries(cache) if one.kind == COMPILER)
    assert compiler.kept == "by ccache"
    assert choose([compiler], most_bytes=0) == []
    then = time.time() - 40 * 86400
    for path in objects:
        os.utime(path, (then, then))
    assert main(["cache", "--prune", "--older-than", "30d"]) == 0
    assert not any(path.exists() for path in objects)


def test_what_is_not_whole_is_made_anew_though_it_is_in_use(tmp_path: Path) -> None:
    entry = tmp_path / "images/ab"
    make_entry(entry, lambda folder: (folder / "half").touch())
    assert use(entry)
    take_away(entry)
    assert not entry.exists()
    made: list[Path] = []
    make_entry(entry, made.append)
    assert len(made) == 1
    assert [path.name for path in entry.iterdir()] == [USED]
    take_away(tmp_path / "images/none")  # nothing to do


def test_an_unmarked_entry_that_another_user_holds_by_its_folder_stays(tmp_path: Path) -> None:
    entry = tmp_path / "roots/ab"
    entry.mkdir(parents=True)
    handle = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        assert in_use(entry)
        assert not discard(entry, last_used_ns(entry))
        assert entry.is_dir()
    finally:
        os.close(handle)
    assert not in_use(entry)
    assert discard(entry, last_used_ns(entry))
    assert [*entry.parent.iterdir()] == []
