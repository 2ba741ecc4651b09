# SPDX-License-Identifier: GPL-2.0-only
"""The folder that all arms of a kernel are built in, one after another.

One workspace per source and compiler: the same absolute paths for every
arm, so that nothing but what a patch changes is compiled again.

    src/        the kernel tree: hard links to the cached source, except for
                the files that the current arm's patches touch
    obj/        make's output folder (O=)
    state.json  which files of src differ from the source, and whether a
                build is under way; written before anything it announces

A hard-linked file is never written to: files are replaced by rename. So the
cached source cannot change, and whatever moment a process is killed at, the
next one finds in state.json a superset of what has to be put right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kdelta.cache import (
    file_lock,
    make_entry,
    remove_leftovers,
    require_free,
    take_away,
    use,
    write_atomically,
)

# 2: objects compiled by way of ccache's depend mode (1) may be another kernel's.
# 3: every object that the compiler made has its stack use (x.su) beside it.
_SCHEMA = 3
# A tree of hard links takes 90,000 directory entries; the objects of a small
# configuration 200 MiB, of a large one several times that.
_NEEDED_BYTES = 1_500 * 2**20
# What a file system may round up.
_CLOCK_SLACK_S = 1.0


@dataclass
class _State:
    path: str
    touched: list[str] = field(default_factory=list)
    building: bool = False
    built: bool = False
    schema: int = _SCHEMA


@dataclass
class Workspace:
    """A locked workspace; get one from `open_workspace`."""

    root: Path
    pristine: Path
    _state: _State

    @property
    def src(self) -> Path:
        """The kernel tree to build from."""
        return self.root / "src"

    @property
    def obj(self) -> Path:
        """The output folder of the build."""
        return self.root / "obj"

    @property
    def staging(self) -> Path:
        """A scratch folder for patched copies, on the same file system."""
        return self.root / "staging"

    @property
    def built(self) -> bool:
        """Whether some arm was once built here to the end."""
        return self._state.built

    def set_files(self, contents: Mapping[str, Path | None]) -> list[str]:
        """Make `src` the pristine tree with these files replaced.

        Only files whose content really changes get a new modification time,
        so that make rebuilds what depends on them and nothing else.

        Args:
            contents: path in the tree -> file to take, or None: no such file.

        Returns:
            The paths that were changed.
        """
        before = set(self._state.touched)
        self._save(touched=sorted(before | set(contents)))
        changed = []
        for path in sorted(before | set(contents)):
            wanted = contents[path] if path in contents else self.pristine / path
            if wanted is not None and not os.path.lexists(wanted):
                wanted = None
            if self._put(path, wanted):
                changed.append(path)
        self._save(touched=sorted(contents))
        return changed

    def _put(self, path: str, wanted: Path | None) -> bool:
        target = self.src / path
        if wanted is None:
            if not os.path.lexists(target):
                return False
            target.unlink()
            self._remove_empty_parents(path)
            return True
        if _same(wanted, target):
            return False
        # A copy, never a link: it needs a modification time of now, and setting
        # that on a link would set it on the cached source.
        incoming = self.root / "incoming"
        incoming.unlink(missing_ok=True)
        shutil.copy(wanted, incoming, follow_symlinks=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(target)
        return True

    def _remove_empty_parents(self, path: str) -> None:
        for parent in Path(path).parents:
            if parent == Path() or (self.pristine / parent).is_dir():
                return
            with contextlib.suppress(OSError):
                (self.src / parent).rmdir()

    def begin_build(self) -> None:
        """Note that make is about to run; mend first what a killed one left."""
        if self._state.building:
            remove_half_written(self.obj)
        self._save(building=True)

    def end_build(self) -> None:
        """Note that make has finished, and with success."""
        self._save(building=False, built=True)

    def _save(
        self,
        *,
        touched: list[str] | None = None,
        building: bool | None = None,
        built: bool | None = None,
    ) -> None:
        if touched is not None:
            self._state.touched = touched
        if building is not None:
            self._state.building = building
        if built is not None:
            self._state.built = built
        text = json.dumps(asdict(self._state), indent=1) + "\n"
        write_atomically(self.root / "state.json", text.encode())


@contextlib.contextmanager
def open_workspace(
    cache: Path, source_id: str, pristine: Path, toolchain: str
) -> Iterator[Workspace]:
    """The workspace for a source and a toolchain, locked as long as it is used.

    It is made if it is not there, and made anew if its state cannot be read, it
    was moved (make's files hold absolute paths), or the clock was set back since:
    make would hold its objects for newer than what a patch changes now.

    Args:
        cache: the cache folder.
        source_id: the source's identity.
        pristine: its unpacked tree, in the same cache.
        toolchain: the version lines of compiler and linker.
    """
    key = hashlib.sha256(f"{source_id}\n{toolchain}".encode()).hexdigest()[:16]
    root = cache.resolve() / "workspaces" / key
    with file_lock(cache / "locks" / f"workspace-{key}", "the build folder of this kernel"):
        state = _read_state(root) if use(root) else None
        if state is None:
            require_free(root, _NEEDED_BYTES, "building a kernel")
            take_away(root)
            remove_leftovers(root)
            make_entry(root, lambda folder: _create(folder, pristine, root))
            state = _State(str(root))
        workspace = Workspace(root, pristine, state)
        shutil.rmtree(workspace.staging, ignore_errors=True)
        yield workspace


def _create(folder: Path, pristine: Path, root: Path) -> None:
    shutil.copytree(pristine, folder / "src", symlinks=True, copy_function=_link)
    (folder / "obj").mkdir()
    write_atomically(folder / "state.json", (json.dumps(asdict(_State(str(root)))) + "\n").encode())


def _link(source: str, target: str) -> None:
    # follow_symlinks=False: a link to a symbolic link, not to what it points at
    os.link(source, target, follow_symlinks=False)


def _read_state(root: Path) -> _State | None:
    try:
        data = json.loads((root / "state.json").read_bytes())
        state = _State(
            path=str(data["path"]),
            touched=[str(path) for path in data["touched"]],
            building=bool(data["building"]),
            built=bool(data["built"]),
            schema=int(data["schema"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = (root / "src").is_dir() and (root / "obj").is_dir()
    usable = whole and state.schema == _SCHEMA and state.path == str(root)
    return state if usable and not _is_of_the_future(root / "obj") else None


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same type, permission to execute and content."""
    if not os.path.lexists(other):
        return False
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.stat().st_mode & 0o111 != other.stat().st_mode & 0o111:
        return False
    return one.read_bytes() == other.read_bytes()


def _is_of_the_future(obj: Path) -> bool:
    now = time.time() + _CLOCK_SLACK_S
    return any(
        Path(folder, name).lstat().st_mtime > now
        for folder, _, names in os.walk(obj)
        for name in names
    )


def remove_half_written(obj: Path) -> list[Path]:
    """Delete targets that a killed build may have left half-written.

    Kbuild writes a target first and then `.<target>.cmd`. If the target is
    newer than that file, the program that wrote it was cut off, and make
    would take what it left for finished. Deleting too much costs a compile.

    Returns:
        The targets that were deleted.
    """
    removed = []
    for folder, _, names in os.walk(obj):
        present = set(names)
        for name in names:
            if not (name.startswith(".") and name.endswith(".cmd")):
                continue
            target = name[1:-4]
            if target not in present:
                continue
            path = Path(folder, target)
            if path.stat().st_mtime_ns > Path(folder, name).stat().st_mtime_ns:
                path.unlink()
                removed.append(path)
    return removed
