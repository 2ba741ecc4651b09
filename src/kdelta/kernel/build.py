# SPDX-License-Identifier: GPL-2.0-only
"""From a source, patches and fragments to a kernel image, kept by content."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kdelta.architecture import Architecture
from kdelta.arms import is_config_file
from kdelta.cache import (
    file_lock,
    make_entry,
    remove_leftovers,
    storage_errors_are_clear,
    take_away,
    use,
)
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel import costs, image, objects
from kdelta.kernel.boot_image import require_own_kernel
from kdelta.kernel.compile import Compilation, compile_image
from kdelta.kernel.configure import (
    Option,
    configure,
    count_set,
    parse_fragment,
    read_fragments,
)
from kdelta.kernel.image import Image
from kdelta.kernel.patches import PatchFile, cover_letters, read_content, read_patches, records
from kdelta.kernel.patching import stage
from kdelta.kernel.process import ending_on_sigterm
from kdelta.kernel.source import SourceTree
from kdelta.kernel.toolchain import (
    Toolchain,
    build_environment,
    build_host,
    compiler_cache,
    make_command,
    read_toolchain,
    require_programs,
)
from kdelta.kernel.workspace import Workspace, open_workspace
from kdelta.patch_files import patch_files, surely_cover_letter
from kdelta.per_kernel import fragment_files


@dataclass(frozen=True)
class BuildRequest:
    """One arm to build, and where to put it.

    Attributes:
        arm: its name, for messages and image.json.
        source: the unpatched tree.
        patches: patch files in the order they apply, cover letters among them.
        base: a make target such as allnoconfig, or a .config file below `root`.
        fragments: config fragments; a later one wins.
        acceleration: `kvm` or `tcg`, which the fragments were chosen for.
        compiler: the C compiler's command name on a host of the architecture.
        arch: what it is built for.
        page_kib: size of its pages in KiB; None: what the fragments say.
        output: folder that gets the image and what belongs to it.
        log: the build's output, kept whether it succeeds or not.
        baseline: output folder of the baseline, whose objects this one's are
            compared with; None for the baseline itself.
        root: the project's root; image.json names files relative to it.
    """

    arm: str
    source: SourceTree
    patches: tuple[Path, ...]
    base: str
    fragments: tuple[Path, ...]
    acceleration: str
    compiler: str
    arch: Architecture
    page_kib: int | None
    output: Path
    log: Path
    baseline: Path | None = None
    root: Path | None = None


def request_for(
    experiment: Experiment,
    arm: str,
    root: Path,
    source: SourceTree,
    acceleration: str,
    output: Path,
    *,
    log: Path | None = None,
    baseline: Path | None = None,
) -> BuildRequest:
    """The request for one arm of an experiment.

    Args:
        experiment: checked by `config.load_experiment`.
        arm: the arm's name.
        root: the folder that patches and fragments are relative to.
        source: what `fetch` or `restore` returned.
        acceleration: what guests of this kernel run with, `kvm` or `tcg`.
        output: usually ``results/<experiment>/kernels/<arm>``.
        log: by default build.log in `output`.
        baseline: the baseline's output folder, if it is built already.

    Raises:
        KdeltaError: there are no patches for a kernel of this series, or a program is missing
            that this arm or another is built with: told before the first kernel takes minutes.
    """
    require_programs(experiment.compilers, experiment.arch)
    chosen = experiment.arms[arm]
    try:
        patches = tuple(patch_files(chosen, root, source.series))
    except FileNotFoundError as error:
        raise KdeltaError(f"arms.{arm}.patches: {error} (looked in {root})") from None
    return BuildRequest(
        arm=arm,
        source=source,
        patches=patches,
        base=experiment.base_of(arm),
        fragments=tuple(
            fragment_files(
                experiment.fragments_of(arm),
                root,
                source.series,
                acceleration,
                experiment.arch.name,
            )
        ),
        acceleration=acceleration,
        compiler=experiment.compiler_of(arm),
        arch=experiment.arch,
        page_kib=experiment.page_kib,
        output=output,
        log=log or output / "build.log",
        baseline=None if arm == experiment.baseline else baseline,
        root=root,
    )


def request_key(request: BuildRequest) -> str:
    """The key of the image that a request stands for; nothing is built.

    Raises:
        KdeltaError: a patch or fragment cannot be read, or a build program is missing.
    """
    contents = [read_content(path) for path in request.patches]
    toolchain = read_toolchain(request.compiler, request.arch)
    return image.image_key(
        arch=request.arch.name,
        source_id=request.source.id,
        patches=[content for content in contents if not surely_cover_letter(content)],
        base=_base(request),
        fragments=[*(_content(path) for path in request.fragments), *_page_size(request)],
        compiler=toolchain.compiler,
        linker=toolchain.linker,
    )


def _base(request: BuildRequest) -> str:
    """What an image's key has of its base configuration: a target's name, a file's content."""
    if not is_config_file(request.base):
        return request.base
    return hashlib.sha256(_content((request.root or Path()) / request.base)).hexdigest()


def _page_size(request: BuildRequest) -> list[bytes]:
    """What `kernel.page_size` adds to a configuration: a fragment of one line, or nothing."""
    line = request.arch.page_sizes[request.page_kib] if request.page_kib else ""
    return [line.encode()] if line else []


def _requested(request: BuildRequest) -> dict[str, Option]:
    """The options that fragments ask for, with the size of pages that the experiment asks for."""
    requested = read_fragments(request.fragments)
    for line in _page_size(request):
        choices = request.arch.page_sizes.values()
        others = {
            option.name for one in choices for option in parse_fragment(one, "kernel.page_size")
        }
        chosen = parse_fragment(line.decode(), "kernel.page_size")
        requested = {name: value for name, value in requested.items() if name not in others}
        requested |= {option.name: option for option in chosen}
    return requested


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KdeltaError(f"{path}: the config fragment cannot be read: {error.strerror}") from None


def build(request: BuildRequest, cache: Path, *, jobs: int | None = None) -> Image:
    """The image of an arm, from the cache or built, in the request's output folder.

    A build that was interrupted goes on where it was when it is asked for again.

    Args:
        request: what to build.
        cache: the cache folder (`cache.cache_root()`).
        jobs: how many compilers at a time; by default one for each core that
            this process may use.

    Raises:
        KdeltaError: a patch does not apply, an option does not take, the
            compiler reports an error (the log is kept), the disk is full, or a
            program is missing.
    """
    cache = cache.resolve()  # programs are run in other folders
    with (
        ending_on_sigterm(),
        storage_errors_are_clear(cache, f"building arm {request.arm}"),
    ):
        key = request_key(request)
        patches = read_patches(request.patches)
        entry = cache / "images" / key
        # Messages about files name those of this request, whoever built the image.
        read_fragments(request.fragments)
        from_cache = use(entry) and image.is_complete(entry)
        if not from_cache:
            toolchain = read_toolchain(request.compiler, request.arch)
            with open_workspace(
                cache, request.source.id, request.source.path, toolchain.identity
            ) as workspace:
                # Another process may have been at it.
                from_cache = use(entry) and image.is_complete(entry)
                if not from_cache:
                    remove_leftovers(entry)
                    take_away(entry)  # there, but not whole
                    _build(request, patches, key, toolchain, workspace, cache, jobs)
        return image.publish(
            entry,
            request.output,
            request.log,
            image.Naming(
                request.arm,
                records(patches, _named(request.patches, request.root)),
                cover_letters(patches, _named(request.patches, request.root)),
                _named(request.fragments, request.root),
                request.acceleration,
            ),
            request.baseline,
            from_cache=from_cache,
        )


def _named(files: Sequence[Path], root: Path | None) -> tuple[str, ...]:
    """Paths relative to the project, so that a record is the same on every machine."""
    return tuple(
        str(file.relative_to(root)) if root and file.is_relative_to(root) else str(file)
        for file in files
    )


def _build(
    request: BuildRequest,
    patches: Sequence[PatchFile],
    key: str,
    toolchain: Toolchain,
    workspace: Workspace,
    cache: Path,
    jobs: int | None,
) -> None:
    began = time.monotonic()
    staged = stage(
        request.source.path, workspace.staging, patches, request.arm, request.source.title
    )
    requested = _requested(request)
    ccache_log = workspace.root / "ccache.log"
    ccache_log.unlink(missing_ok=True)
    first = not workspace.built
    env = build_environment(cache, key, ccache_log, first=first)
    make = make_command(toolchain, workspace.src, workspace.obj)
    request.log.parent.mkdir(parents=True, exist_ok=True)
    with request.log.open("wb") as log:
        _head(log, request, key, toolchain)
        workspace.begin_build()
        workspace.set_files(staged.files)
        config = configure(
            make,
            env,
            workspace.src,
            workspace.obj,
            request.base
            if not is_config_file(request.base)
            else (request.root or Path()) / request.base,
            requested,
            request.source.title,
            request.arch.source,
            log,
        )
        compiled = compile_image(
            make,
            request.arch.target,
            env,
            workspace,
            request.arm,
            log,
            jobs=jobs or len(os.sched_getaffinity(0)),
            total=image.expected_steps(cache / "images", count_set(config)),
            first=first,
        )
        workspace.end_build()
    require_own_kernel(
        workspace.obj, request.arch, build_host(key), request.arm, compiler_cache(cache)
    )
    facts = _facts(request, key, toolchain, workspace, compiled, count_set(config), ccache_log)
    digests = objects.hash_objects(workspace.obj)
    why = objects.reasons(workspace.obj, workspace.src, digests, staged.files)
    weight, sizes = costs.weigh(workspace.obj, digests, request.arch.cross)

    def make_image(folder: Path) -> None:
        image.collect(
            folder,
            workspace.obj,
            request.arch.image,
            request.log,
            digests,
            why,
            sizes,
            {**facts, **weight, "build_s": round(time.monotonic() - began, 1)},
        )

    with file_lock(cache / "locks" / f"image-{key[:16]}", "the cached kernel image"):
        make_entry(cache / "images" / key, make_image)


def _facts(
    request: BuildRequest,
    key: str,
    toolchain: Toolchain,
    workspace: Workspace,
    compiled: Compilation,
    options_set: int,
    ccache_log: Path,
) -> dict[str, object]:
    hits, misses = image.ccache_counts(ccache_log)
    return {
        "schema": 1,
        "key": key,
        "kernel_release": image.kernel_release(workspace.obj),
        "kernel_banner": image.kernel_banner(workspace.obj),
        "build_host": build_host(key),
        "arch": request.arch.name,
        "source": request.source.record(),
        "base": request.base,
        "fragments": [{"sha256": image.sha256_file(path)} for path in request.fragments],
        "compiler": toolchain.compiler,
        "linker": toolchain.linker,
        "options_set": options_set,
        "steps": compiled.steps,
        "first_build": compiled.first,
        "compile_s": round(compiled.seconds, 1),
        "objects_rebuilt": compiled.objects,
        "ccache": {"hits": hits, "misses": misses},
    }


def _head(log: BinaryIO, request: BuildRequest, key: str, toolchain: Toolchain) -> None:
    lines = [
        f"# arm {request.arm}, image {key}",
        f"# {request.source.title}, {toolchain.compiler}, {toolchain.linker}",
    ]
    log.write(("\n".join(lines) + "\n").encode())
    log.flush()
