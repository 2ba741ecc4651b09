# SPDX-License-Identifier: GPL-2.0-only
"""The verb doctor: what this host is, and what would spoil a run on it."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdelta.architecture import architecture, architectures
from kdelta.commands.common import Verbs
from kdelta.commands.noise import noise, noise_problems, noise_rows
from kdelta.config import RunConfig, load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.host.doctor import FATAL, diagnose
from kdelta.host.environment import replay_messages, restore_left_behind
from kdelta.host.facts import guest_vcpus
from kdelta.host.lock import host_lock
from kdelta.yaml_file import parse_model, read_yaml

Json = dict[str, Any]
Group = tuple[str, list[tuple[str, str]]]

_WIDTH = 80
_UNAFFECTED = "Not affected"
_CONFIG = Path("config/config.yaml")

NOISE_S = 10.0
"""For so long the speed of this host's CPUs is measured."""


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser(
        "doctor", help="say what this host is fit for, and what would spoil a run on it"
    )
    parser.add_argument(
        "--kernel", type=Path, help="a kernel's image: find out by booting it with KVM"
    )
    parser.add_argument("--vcpus", type=_vcpus, default="auto", help="of the guest to be run")
    parser.add_argument("--compiler", default="gcc", help="the C compiler of the experiment")
    parser.add_argument(
        "--arch", choices=sorted(architectures()), help="of the guests (default: this host's)"
    )
    parser.add_argument(
        "--experiment",
        help=f"forecast the noise floor of its protocols (default: as in {_CONFIG})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"leave out the {NOISE_S:g} s in which the speed of the CPUs is measured",
    )
    parser.add_argument("--json", action="store_true", help="for programs to read")
    parser.add_argument(
        "--restore", action="store_true", help="restore settings that a killed run left, and end"
    )
    parser.set_defaults(run=_doctor)


def _vcpus(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 64, or auto; got {text!r}")
    return int(text)


def _doctor(args: argparse.Namespace) -> int:
    if args.restore:
        return _restore()
    if args.kernel and not args.kernel.is_file():
        raise KdeltaError(f"--kernel: {args.kernel}: no such file; give a kernel's image")
    experiment = _experiment(args)  # a mistake in it is told before anything is measured
    found = diagnose(architecture(args.arch), guest_vcpus(args.vcpus), args.kernel, args.compiler)
    found["noise"] = None if args.quick else _noise(experiment)
    found["problems"] += noise_problems(found["noise"])
    print(json.dumps(found, indent=1) if args.json else report_text(found))
    return int(any(problem["severity"] == FATAL for problem in found["problems"]))


def _experiment(args: argparse.Namespace) -> Experiment | None:
    """The experiment whose protocols are meant; None outside of a project."""
    if args.experiment is not None:
        return load_experiment(args.root / args.experiment, args.root, args.arch)
    if args.quick or not (args.root / _CONFIG).is_file():
        return None
    chosen = parse_model(RunConfig, read_yaml(args.root / _CONFIG), _CONFIG)
    return load_experiment(args.root / chosen.experiment, args.root, args.arch or chosen.arch)


def _noise(experiment: Experiment | None) -> Json:
    # Shared: beside a build it says what the build takes; beside a measurement it would disturb.
    with host_lock("measuring the speed of this host's CPUs", exclusive=False):
        print(f"measuring the speed of this host's CPUs for {NOISE_S:g} s", file=sys.stderr)
        return noise(experiment, NOISE_S)


def _restore() -> int:
    # Shared: only a measurement, which has set them for its own use, is in the way.
    with host_lock("restoring host settings", exclusive=False):
        journal, restored = restore_left_behind()
    lines = replay_messages(restored) or [f"nothing to restore: no journal at {journal}"]
    print("\n".join(lines))
    return int(bool(restored.failed))


def report_text(found: Json) -> str:
    """The diagnosis for people, at most 80 columns wide where words can be broken."""
    groups = [_processor(found["host"]), _system(found), _tools(found["host"]), _settings(found)]
    if found.get("noise"):
        groups.append(noise_rows(found["noise"]))
    width = max(len(label) for _, rows in groups for label, _ in rows) + 2
    lines: list[str] = []
    for title, rows in groups:
        lines += [title, *(line for label, text in rows for line in _row(label, text, width)), ""]
    return "\n".join([*lines, *_problems(found["problems"])])


def _row(label: str, text: str, width: int) -> list[str]:
    first = f"  {label:<{width}}"
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _processor(host: Json) -> Group:
    shape = ", ".join(
        f"{host[key]} {title if host[key] != 1 else title[:-1]}"
        for key, title in (("sockets", "sockets"), ("cores", "cores"), ("online_cpus", "CPUs"))
        if host[key]
    )
    usable = "" if host["cpus"] == host["online_cpus"] else f" ({host['cpus']} usable by kdelta)"
    rows = [
        ("model", f"{host['cpu_model']}, {host['architecture']}"),
        ("topology", (shape or "not visible") + usable),
        ("SMT", _on_off(host["smt"])),
        ("governor", _governor(host)),
        ("turbo", _on_off(host["turbo"])),
        ("NUMA nodes", str(host["numa_nodes"] or "not visible")),
    ]
    known = host["mitigations"] or {}
    affected = {name: words for name, words in known.items() if words != _UNAFFECTED}
    rows += list(affected.items())
    if known:
        rows.append(("other vulnerabilities", f"{len(known) - len(affected)}: not affected"))
    else:
        rows.append(("mitigations", "not visible"))
    return "Processor", rows


def _system(found: Json) -> Group:
    host, now, kvm = found["host"], found["now"], found["kvm"]
    kvm_words = {True: "works", False: "no", None: "not known"}[kvm["usable"]]
    return "System", [
        ("memory", f"{_mib(host['memory_mib'])}, {_mib(now['memory_available_mib'])} available"),
        ("swap", f"{_mib(host['swap_mib'])}, {_mib(now['swap_free_mib'])} free"),
        ("load average", f"{now['load']:g}"),
        ("others' CPU time", f"{now['other_cpu_share']:.1%} over {now['sampled_s']:.1f} s"),
        ("stolen CPU time", f"{now['steal_share']:.1%} over {now['sampled_s']:.1f} s"),
        ("system", f"{host['system'] or 'unknown'}, Linux {host['kernel'] or 'unknown'}"),
        ("virtual machine", host["hypervisor"] or "no sign of it"),
        ("KVM", f"{kvm_words}: {kvm['reason']}"),
    ]


def _tools(host: Json) -> Group:
    names = ("qemu", "virtme_ng", "stress_ng", "compiler", "python")
    titles = ("QEMU", "virtme-ng", "stress-ng", "compiler", "Python")
    return "Tools", [
        (title, host[name] or "not installed") for name, title in zip(names, titles, strict=True)
    ]


def _settings(found: Json) -> Group:
    settings = found["settings"]
    rows = [(entry["what"], _change(entry["from"], entry["to"])) for entry in settings["set"]] + [
        (entry["what"], f"cannot be set: {entry['why']}") for entry in settings["not_set"]
    ]
    guest = f"{found['vcpus']} vCPU" + ("s" if found["vcpus"] != 1 else "")
    return f"Set for the time of a block (guest of {guest})", rows


def _change(before: str, after: str) -> str:
    return f"{after} already" if before == after else f"{before} -> {after}"


def _problems(problems: list[Json]) -> Iterator[str]:
    if not problems:
        yield "No problems."
        return
    for severity, title in (
        (FATAL, "Problems that make a run fail"),
        ("doubt", "Problems that make numbers doubtful"),
    ):
        chosen = [problem for problem in problems if problem["severity"] == severity]
        if chosen:
            yield title
        for problem in chosen:
            yield from textwrap.wrap(
                problem["what"], _WIDTH, initial_indent="  - ", subsequent_indent="    "
            )
            if problem["todo"]:
                yield from textwrap.wrap(
                    problem["todo"], _WIDTH, initial_indent="    -> ", subsequent_indent="       "
                )


def _on_off(value: bool | None) -> str:
    return {True: "on", False: "off", None: "not visible"}[value]


def _governor(host: Json) -> str:
    if host["governor"] is None:
        return "not visible"
    return f"{host['governor']}" + (
        f" ({host['scaling_driver']})" if host["scaling_driver"] else ""
    )


def _mib(value: int | None) -> str:
    return "unknown" if value is None else f"{value} MiB"
