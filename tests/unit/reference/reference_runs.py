# SPDX-License-Identifier: GPL-2.0-only
"""A finished run of this machine, made up, with everything in it that must not ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdelta.provenance import raw_hashes
from tests.unit.analysis.synthetic import ARMS, Truth, write_records
from tests.unit.export.export_runs import make_run

Json = dict[str, Any]

NODES = ("pluto", "rack-7")
SECRETS = ("/home/alice", "/srv/build-7", "L3Jvb3QvLnB5ZW52", "tmp/kdelta-boot-x", "alice", *NODES)
CONSOLE = """\
Linux version 6.12.117 (kdelta@2518b6865ca9) (gcc (Debian 12.2.0-14) 12.2.0) #1 SMP
Command line: virtme_hostname=virtme-ng virtme_rw_overlay0=/etc virtme_rw_overlay2=/home \
virtme.exec=`L3Jvb3QvLnB5ZW52L3ZlcnNpb25z` virtme_chdir=tmp/kdelta-boot-x panic=-1 \
init=/home/alice/kdelta/.venv/lib/python3.11/site-packages/virtme/guest/bin/virtme-ng-init
8250/16550 driver, MTRR map: 4 entries (3 fixed + 1 variable), virtme_initmount0=/run/kdelta
Run /home/alice/kdelta/.venv/bin/virtme-ng-init as init process
pluto: /proc/pressure/memory
reboot: Power down
"""
CLAIMS = "config/claims/made-up.csv"
CLAIMS_TEXT = (
    "regime,metric,writers,readers,baseline,value,delta_percent\n"
    "idle,throughput_mib_s,1,1,1000,1200,20\n"
)


def finished_run(folder: Path, root: Path, **truth: Any) -> Path:
    """A run's folder below `folder`; its claims lie below `root`."""
    (root / CLAIMS).parent.mkdir(parents=True, exist_ok=True)
    (root / CLAIMS).write_text(CLAIMS_TEXT)
    outcome = Truth(regimes=("idle", "memory-pressure"), **truth)
    run = folder / "pipes" / "quick"
    make_run(run, outcome, spoil=_make_private)
    for regime in ("idle",):
        for arm in ARMS:
            _trace(run / "mechanism" / regime, regime, arm, outcome)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["experiment"]["claims"] = {"file": CLAIMS, "source": "a mail", "arm": "patched"}
    manifest["experiment"]["mechanism"] = {"regimes": ["idle"]}
    manifest["raw_sha256"] |= raw_hashes(run, [run / "mechanism" / "idle"])
    manifest["argv"] = "snakemake --cores all --directory /srv/build-7/pipes"
    manifest["blocks"] = [
        {
            "regime": path.parent.name,
            "block": path.name,
            "node": json.loads((path / "host.json").read_text())["node"],
            "boots": [],
            "environment": {"set": [], "not_set": []},
            "earlier_attempts": [],
        }
        for path in sorted(run.glob("raw/*/block-*"))
    ]
    (run / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for table in ("samples.csv", "validity.csv", "tables"):
        _remove(run / table)  # made without the claims and the traces
    return run


def _remove(path: Path) -> None:
    for inside in path.iterdir() if path.is_dir() else ():
        inside.unlink()
    path.rmdir() if path.is_dir() else path.unlink()


def _make_private(raw: Path) -> None:
    for log in raw.rglob("*.console.log"):
        log.write_text(CONSOLE)
    for number, host in enumerate(sorted(raw.glob("*/block-*/host.json"))):
        record = json.loads(host.read_text()) | {"node": NODES[number % 2]}
        if number == 0:
            tried = {"at": "10:00", "reason": "log: /home/alice/x.console.log"}
            record["earlier_attempts"] = [tried]
        host.write_text(json.dumps(record))


def _trace(folder: Path, regime: str, arm: str, truth: Truth) -> None:
    identity = {"regime": regime, "arm": arm, "block": 0, "boot_order": 1}
    before = 0 if ARMS[arm] == "baseline" else 8
    counts = ("bulk_calls", "bulk_pages_requested", "bulk_pages", "reclaims_before_lock")
    samples = [
        {
            "record": "mechanism",
            **identity,
            "cell_order": order,
            "cell": cell,
            "status": "ok",
            "error": None,
            "allocation": {
                "writes": 100,
                "pages_before_lock": 100 * before,
                "pages_under_lock": 100 * (16 - before),
                **dict.fromkeys(counts, 0),
                "reclaims_under_lock": 0,
                "lost_events": 0,
            },
            "contention": {"writes": 100, "waits": 10, "wait_ns_total": 10**6, "lost_events": 0},
        }
        for order, cell in enumerate(truth.cells(), start=1)
    ]
    gate = {"vcpus": 2, "ok": True, "failures": []}
    boot = {"record": "boot", "schema": 1, **identity, "mechanism": True, "gate": gate}
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder / f"{arm}.jsonl", [boot, *samples, {"record": "end", "ok": True}])
    (folder / f"{arm}.console.log").write_text(CONSOLE)
