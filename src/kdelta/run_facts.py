# SPDX-License-Identifier: GPL-2.0-only
"""Facts of a run in words, from its manifest: host, guest, hashes, set-up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdelta.architecture import architecture
from kdelta.earlier_runs import image_record, programs
from kdelta.experiment import Experiment
from kdelta.kernel.objects import SAYS_NOTHING
from kdelta.report.formatting import plural

Json = dict[str, Any]


def image_patches(manifest: Json, arm: str) -> list[Json]:
    """The patches of an arm as its image was built with them."""
    patches: list[Json] = manifest["kernels"][arm].get("patches", [])
    return patches


def objects_changed(image: Json) -> int | None:
    """How many objects differ from the baseline's beyond an image's name and addresses.

    None for the baseline, which was not compared.
    """
    counts: dict[str, int] | None = image.get("objects_differ")
    if counts is None:
        return None
    return sum(number for reason, number in counts.items() if reason not in SAYS_NOTHING)


def environment_facts(manifest: Json) -> dict[str, str]:
    """Host, guest and tools, label to text."""
    facts: dict[str, str] = {}
    several = len(manifest["hosts"]) > 1
    for number, record in enumerate(manifest["hosts"], start=1):
        host = record["host"]
        prefix = f"Host {number}: " if several else ""
        facts[f"{prefix}Processor"] = f"{host['cpu_model']}, {host['cpus']} CPUs usable"
        facts[f"{prefix}Architecture"] = host["architecture"]
        facts[f"{prefix}Cores"] = _cores(host)
        facts[f"{prefix}Host memory"] = f"{host['memory_mib']} MiB, swap {host['swap_mib']} MiB"
        facts[f"{prefix}Host system"] = f"{host['system']}, Linux {host['kernel']}"
        facts[f"{prefix}Host is itself a guest"] = host["hypervisor"] or "no sign of it"
        facts[f"{prefix}CPU frequency governor"] = host["governor"] or "not visible"
        facts[f"{prefix}Turbo"] = {True: "on", False: "off", None: "not visible"}[host["turbo"]]
        facts[f"{prefix}Mitigations"] = _mitigations(host["mitigations"])
        facts[f"{prefix}Guest"] = f"{record['vcpus']} vCPUs, {record['memory_mib']} MiB" + (
            " (more vCPUs than the host has CPUs)" if record["overcommitted"] else ""
        )
        facts[f"{prefix}QEMU"] = host["qemu"] or "unknown"
        facts[f"{prefix}virtme-ng"] = host["virtme_ng"]
        facts[f"{prefix}stress-ng"] = host["stress_ng"] or "not installed"
    facts["Acceleration"] = (
        f"{manifest['acceleration']['mode']}: {manifest['acceleration']['reason']}"
    )
    if cpu := manifest["acceleration"].get("cpu"):
        facts["CPU model of the guest"] = cpu
    if arch := manifest["acceleration"].get("arch"):
        facts["Architecture of the guest"] = arch
    if sizes := _page_sizes(manifest):
        facts["Page size of the guest"] = sizes
    facts |= _guest_mitigations(manifest)
    if root := manifest.get("guest_root"):
        versions = root["packages"]
        facts["Root of the guest"] = f"{len(versions)} Debian packages: " + ", ".join(
            f"{name} {versions[name]}" for name in root["wanted"] if name in versions
        )
    return facts


def _boots(manifest: Json) -> list[Json]:
    """What was recorded of every boot of every block."""
    return [boot for block in manifest["blocks"] for boot in block["boots"]]


def _guest_mitigations(manifest: Json) -> dict[str, str]:
    """What guests' kernels said of them, told arm by arm where they differ."""
    said: dict[str, dict[str, None]] = {}
    for boot in _boots(manifest):
        if found := boot.get("mitigations"):
            said.setdefault(boot["arm"], {})[_mitigations(found)] = None
    told = {arm: "; or ".join(words) for arm, words in said.items()}
    differ = len(set(told.values())) > 1
    return {
        "Mitigations of the guest" + (f", {arm}" if differ else ""): words
        for arm, words in told.items()
    }


def _page_sizes(manifest: Json) -> str:
    """Of all boots; empty of runs of before it was recorded."""
    sizes = {size for boot in _boots(manifest) if (size := boot.get("page_kib"))}
    return ", ".join(f"{size} KiB" for size in sorted(sizes))


def host_differences(manifest: Json) -> tuple[str, ...]:
    """In what the hosts and guests of the blocks differ, and which blocks were where; or nothing.

    A host whose system, settings or programs changed between blocks counts as another one.
    """
    hosts = manifest["hosts"]
    if len(hosts) < 2:
        return ()
    facts = [
        {
            **record["host"],
            "guest's vCPUs": record["vcpus"],
            "guest's memory": f"{record['memory_mib']} MiB",
            "acceleration": record["acceleration"]["mode"],
        }
        for record in hosts
    ]
    names = dict.fromkeys(name for fact in facts for name in fact)
    lines = []
    for name in names:
        values = [fact.get(name) for fact in facts]
        if any(value != values[0] for value in values[1:]):
            told = "; ".join(f"host {n}: {_value(v)}" for n, v in enumerate(values, start=1))
            lines.append(f"{name.replace('_', ' ')}: {told}.")
    for number in range(1, len(hosts) + 1):
        where: dict[str, list[str]] = {}
        here = [block for block in manifest["blocks"] if block.get("host") == number]
        for block in here:
            where.setdefault(block["regime"], []).append(str(int(block["block"][6:])))
        if where:
            there = ", ".join(f"{regime} {', '.join(n)}" for regime, n in where.items())
            called = ", ".join(dict.fromkeys(filter(None, (block.get("node") for block in here))))
            name = f"Host {number}" + (f" ({called})" if called else "")
            lines.append(f"{name} measured blocks {there}.")
    return tuple(lines)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {words}" for name, words in value.items()) or "none"
    if value is None:
        return "unknown"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def provenance_facts(manifest: Json) -> dict[str, str]:
    """Hashes and versions, label to text."""
    kdelta = manifest["kdelta"]
    commit = kdelta.get("commit")
    version = kdelta["version"] + (f", commit {commit[:12]}" if commit else "")
    facts = {
        "Run": manifest["run_id"],
        "Command": manifest["argv"],
        "kdelta": version + (", changed" if kdelta.get("changed") else ""),
        "Seed": str(manifest["experiment"]["seed"]),
    }
    for name, record in manifest["kernels"].items():
        image = image_record(record)
        facts[f"Kernel {name}"] = (
            f"{image['kernel_release']}, image {image['key'][:12]}, "
            f"image sha256 {image['image_sha256'][:16]}"
        )
        if (changed := objects_changed(image)) is not None:
            differ = "differs" if changed == 1 else "differ"
            facts[f"Kernel {name}"] += f"; {plural(changed, 'object')} {differ} from the baseline's"
        for patch in image.get("patches", []):
            facts[f"Patch {patch['file']}"] = f"sha256 {patch['sha256'][:16]}"
        for letter in image.get("cover_letters", []):
            facts[f"Cover letter {letter['file']}"] = letter["subject"]
    for label, of_image in (
        ("Kernel source", _source),
        ("Compiler", lambda image: image["compiler"]),
        ("Linker", lambda image: image.get("linker", "")),
        ("Kernel configuration", _configuration),
    ):
        told = {name: of_image(image) for name, image in manifest["kernels"].items()}
        first = next(iter(told.values()), "")
        if first:
            facts[label] = first
        # Of an arm that is made of something else.
        facts |= {
            f"{label}, {name}": text for name, text in told.items() if text not in ("", first)
        }
    for program, known in programs(manifest).items():
        if "binary_sha256" in known:
            facts[program] = f"binary sha256 {known['binary_sha256'][:16]}"
    return facts


def _source(image: Json) -> str:
    return ", ".join(f"{key} {value}" for key, value in image["source"].items() if value)


def _configuration(image: Json) -> str:
    if "acceleration" not in image:
        return ""
    fragments = ", ".join(fragment["file"] for fragment in image["fragments"])
    return f"for {image['acceleration']}: {image['base']} with {fragments}"


def claim_setup(
    experiment: Experiment, protocol: str, manifest: Json
) -> tuple[tuple[str, str, str], ...]:
    """How a published experiment and this run differ: what, as published, as here."""
    if experiment.claims is None:
        return ()
    hosts = manifest["hosts"]
    machines = _all(record["host"].get("architecture") for record in hosts)
    # Guests were the hosts' own before it was recorded what they are.
    named = manifest["acceleration"].get("arch")
    foreign = named and not set(architecture(named).machines) & set(machines.split(", "))
    acceleration = manifest["acceleration"]["mode"]
    chosen = experiment.protocols[protocol]
    image = manifest["kernels"][experiment.baseline]
    seconds = ", ".join(f"{value:g} {name}" for name, value in chosen.duration_s.items())
    ours = {
        "Architecture": named or machines,
        "vCPUs": _all(record.get("vcpus") for record in hosts),
        "Acceleration": acceleration + (f" (emulated on {machines})" if foreign else ""),
        "Kernel": image["kernel_release"],
        "Memory": f"{_all(r.get('memory_mib') for r in hosts) or experiment.memory_mib()} MiB",
        "Runs per cell": f"{chosen.blocks} per arm, each in a fresh boot, in drawn order",
        "Seconds per cell": seconds,
    }
    return tuple(
        (what, published, ours.get(what) or "not recorded")
        for what, published in experiment.claims.setup.items()
    )


def _all(values: Iterable[object]) -> str:
    """Every value once; empty if there is none."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def host_settings(
    manifest: Json,
) -> tuple[tuple[tuple[str, str, str], ...], tuple[tuple[str, str], ...]]:
    """What was set on the hosts for the time of blocks, and what could not be and why.

    Each once, in the order in which it first came up.
    """
    changed: dict[tuple[str, str, str], None] = {}
    refused: dict[tuple[str, str], None] = {}
    for block in manifest["blocks"]:
        for entry in block["environment"]["set"]:
            changed.setdefault((entry["what"], str(entry["from"]), str(entry["to"])))
        for entry in block["environment"]["not_set"]:
            refused.setdefault((entry["what"], entry["why"]))
    return tuple(changed), tuple(refused)


def _cores(host: Json) -> str:
    if not host["cores"]:
        return "not visible"
    smt = f", {host['threads_per_core']} threads each" if host["smt"] else ", no SMT"
    counts = ((host["cores"], "core"), (host["sockets"], "socket"), (host["numa_nodes"], "node"))
    return ", ".join(plural(count or 0, noun) for count, noun in counts) + smt


def _mitigations(found: dict[str, str] | None) -> str:
    if found is None:
        return "not visible"
    told = [f"{name}: {text}" for name, text in found.items() if text != "Not affected"]
    return "; ".join(told) or "the processor is not affected by any known vulnerability"
