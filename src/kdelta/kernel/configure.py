# SPDX-License-Identifier: GPL-2.0-only
"""Configuring a kernel, and making sure that what was asked for is what came out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kdelta.cache import disk_full, says_disk_full, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel import kconfig
from kdelta.kernel.process import run

_SET = re.compile(r'(CONFIG_[A-Za-z0-9_]+)=(y|m|n|-?[0-9]+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*")')
# Found out about the compiler and its tools when a kernel is configured; asked for by nobody.
_COMPILER_MADE = re.compile(
    r"CONFIG_(CC_(IS|HAS|CAN|VERSION|NO)_|CC_VERSION|GCC_|CLANG_VERSION|AS_(IS|HAS|VERSION|WRUSS|"
    r"AVX|SHA|TPAUSE|GFNI|VAES|VPCL|LSE)|LD_(IS|VERSION|CAN|ORPHAN)|LLD_VERSION|TOOLS_SUPPORT_|"
    r"RUSTC_|BINDGEN_|PAHOLE_)"
)
_KEY_FILES = ("CONFIG_SYSTEM_TRUSTED_KEYS", "CONFIG_SYSTEM_REVOCATION_KEYS")
_OF_MAKE_ITSELF = re.compile(r"make(\[\d+\])?: ")
_NOT_SET = re.compile(r"# (CONFIG_[A-Za-z0-9_]+) is not set")


@dataclass(frozen=True)
class Option:
    """One option that a fragment asks for; `value` is as in a .config, ``n`` for not set."""

    name: str
    value: str
    file: str
    line: int


@dataclass(frozen=True)
class Mismatch:
    """An option that came out differently than it was asked for."""

    asked: Option
    got: str


def parse_fragment(text: str, file: str) -> list[Option]:
    """The options in a config fragment, in order.

    Args:
        text: lines ``CONFIG_X=value`` and ``# CONFIG_X is not set``; other
            comments and empty lines are skipped.
        file: its name, for messages.

    Raises:
        KdeltaError: a line that is neither, with file and line number.
    """
    options = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if (match := _SET.fullmatch(line)) is not None:
            options.append(Option(match[1], match[2], file, number))
        elif (match := _NOT_SET.fullmatch(line)) is not None:
            options.append(Option(match[1], "n", file, number))
        elif line and not line.startswith("#"):
            raise KdeltaError(
                f"{file}:{number}: not a line of a config fragment: {line!r}; write CONFIG_NAME=y, "
                '=m, =n, =123, =0x1f or ="text", or # CONFIG_NAME is not set'
            )
    return options


def read_fragments(files: Sequence[Path]) -> dict[str, Option]:
    """The options that several fragments ask for together; a later one wins.

    Raises:
        KdeltaError: a fragment cannot be read, or has a malformed line.
    """
    merged: dict[str, Option] = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KdeltaError(f"{file}: the config fragment cannot be read: {error}") from None
        merged.update((option.name, option) for option in parse_fragment(text, str(file)))
    return merged


def parse_config(text: str) -> dict[str, str]:
    """The options of a .config: name -> value, ``n`` for ``is not set``."""
    values = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            values[name] = value
        elif (match := _NOT_SET.fullmatch(line)) is not None:
            values[match[1]] = "n"
    return values


def read_base(file: Path) -> dict[str, str]:
    """The options of a .config file, which a kernel's configuration begins with.

    Raises:
        KdeltaError: it cannot be read, or holds no option.
    """
    try:
        found = parse_config(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise KdeltaError(f"{file}: the base configuration cannot be read: {error}") from None
    if not found:
        raise KdeltaError(f"{file}: no line CONFIG_NAME=value in it: no kernel's configuration")
    return found


def usable_base(options: Mapping[str, str], tree: Path) -> dict[str, str]:
    """Those of a .config file's options that say something of another tree and compiler.

    What the compiler made is left out, and so are files of keys that the tree does not have: a
    distribution's configuration names those of its own build.

    Args:
        options: from `read_base`.
        tree: the kernel's source.
    """
    return {
        name: '""' if name in _KEY_FILES and not (tree / value.strip('"')).is_file() else value
        for name, value in options.items()
        if not _COMPILER_MADE.match(name)
    }


def count_set(config: Mapping[str, str]) -> int:
    """How many options are set, to whatever value."""
    return sum(value != "n" for value in config.values())


def config_text(values: Mapping[str, str]) -> str:
    """Options as lines that the kernel's configuration tools read."""
    return "".join(
        f"# {name} is not set\n" if value == "n" else f"{name}={value}\n"
        for name, value in values.items()
    )


def compare(requested: Iterable[Option], config: Mapping[str, str]) -> list[Mismatch]:
    """The options that did not come out as asked.

    An option that the result does not mention is off. What the compiler makes counts as asked
    for nowhere, though a .config that is taken as a fragment has it.
    """
    return [
        Mismatch(option, got)
        for option in requested
        if not _COMPILER_MADE.match(option.name)
        and (got := config.get(option.name, "n")) != option.value
    ]


def mismatch_message(mismatches: Sequence[Mismatch], kernel: str, tree: Path, source: str) -> str:
    """All options that did not take, each with where it was asked for and why it may be.

    Args:
        mismatches: at least one.
        kernel: the kernel's description.
        tree: its source, which is searched for the options' definitions.
        source: the architecture's folder in it.
    """
    hints = kconfig.hints(
        tree, {mismatch.asked.name: mismatch.asked.value for mismatch in mismatches}, source
    )
    lines = [
        f"{kernel}: {len(mismatches)} option(s) did not take; the kernel was not built. "
        "Add what each one depends on, or take it out of the fragment:"
    ]
    for mismatch in mismatches:
        asked = mismatch.asked
        lines.append(
            f"  {asked.file}:{asked.line}: {asked.name}: asked {asked.value}, got {mismatch.got}; "
            f"{hints[asked.name]}"
        )
    return "\n".join(lines)


def configure(
    make: Sequence[str | Path],
    env: Mapping[str, str],
    tree: Path,
    obj: Path,
    base: str | Path,
    requested: Mapping[str, Option],
    kernel: str,
    source: str,
    log: BinaryIO,
) -> dict[str, str]:
    """Write `obj`/.config: a base target with fragments on top, checked.

    Args:
        make: the make command with its constant arguments (-C, O=, CC=).
        env: its environment.
        tree: the (patched) kernel tree.
        obj: the output folder.
        base: a make target such as allnoconfig, or a .config file.
        requested: the options of all fragments, merged.
        kernel: the kernel's description, for messages.
        source: the architecture's folder in the tree, for messages.
        log: gets make's output.

    Returns:
        The resulting options: name -> value.

    Raises:
        KdeltaError: make failed, or an option did not take.
    """
    obj.mkdir(parents=True, exist_ok=True)
    wanted = {option.name: option.value for option in requested.values()}
    dot_config = obj / ".config"
    if base == "allnoconfig":
        asked = obj / "kdelta.allconfig"
        write_atomically(asked, config_text(wanted).encode())
        _make([*make, f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"], env, obj, log)
    else:
        if isinstance(base, Path):
            write_atomically(dot_config, config_text(usable_base(read_base(base), tree)).encode())
        else:
            _make([*make, base], env, obj, log)
        merged = {**parse_config(dot_config.read_text()), **wanted}
        write_atomically(dot_config, config_text(merged).encode())
        _make([*make, "olddefconfig"], env, obj, log)
    config = parse_config(dot_config.read_text())
    mismatches = compare(requested.values(), config)
    if mismatches:
        raise KdeltaError(mismatch_message(mismatches, kernel, tree, source))
    return config


def _make(command: Sequence[str | Path], env: Mapping[str, str], obj: Path, log: BinaryIO) -> None:
    result = run(command, env=env, log=log)
    if result.status != 0:
        if says_disk_full(result.tail):
            raise disk_full(obj, "configuring a kernel")
        # Every make of those within one another complains after the one that has the reason.
        lines = result.tail.splitlines()
        told = [line for line in lines if not _OF_MAKE_ITSELF.match(line)] or lines
        newer = any("compiler is too old" in line for line in told)
        raise KdeltaError(
            f"`make {command[-1]}` failed; its last lines:\n"
            + "\n".join(f"  {line}" for line in told[-6:])
            + ("\nName a newer one in kernel.compiler or arms.<name>.compiler" if newer else "")
            + f"\nThe whole output is in {log.name}"
        )
