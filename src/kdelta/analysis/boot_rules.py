# SPDX-License-Identifier: GPL-2.0-only
"""Validity rules on a whole boot, by its records and its console."""

from __future__ import annotations

from collections.abc import Iterator

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.breach import Breach, one_line
from kdelta.analysis.console import OOM_INVOKED, OOM_KILL


def boot_breaches(boot: RawBoot) -> Iterator[Breach]:
    """Rules that the boot as a whole breaks."""
    if not boot.failed:  # then the host says so, and why: that it is incomplete is no news
        yield from _completeness_breaches(boot)
    if boot.boot is not None:
        yield from _start_breaches(boot)
    yield from _console_breaches(boot)


def _completeness_breaches(boot: RawBoot) -> Iterator[Breach]:
    done, planned = len(boot.samples), len(boot.places)
    if boot.boot is None:
        yield Breach("incomplete-boot", done, planned, "the guest left no boot record")
    elif boot.end is None:
        yield Breach(
            "incomplete-boot", done, planned, f"no end record; {done} of {planned} slices were run"
        )
    elif boot.end.samples != (held := done + boot.others):
        yield Breach(
            "incomplete-boot",
            held,
            boot.end.samples,
            f"the end record counts {boot.end.samples} samples, the file holds {held}",
        )


def _start_breaches(boot: RawBoot) -> Iterator[Breach]:
    assert boot.boot is not None
    gate, check, stressor = boot.boot.gate, boot.boot.self_check, boot.boot.stressor
    if not gate.ok:
        yield Breach("gate", len(gate.failures), 0, one_line("; ".join(gate.failures)))
    elif boot.end is not None and not boot.end.ok:
        why = boot.end.error or "no reason was recorded"
        yield Breach("gate", 1, 0, one_line(f"the guest did not stay as it was asked for: {why}"))
    if check is None:
        # A driver that stops at the gate, or a boot that failed, has no self-check to show.
        if gate.ok and not boot.failed:
            yield Breach("self-check", None, None, "the self-check was not run")
    elif not check.ok or check.payload_errors:
        why = check.error or "the self-check found payload errors"
        yield Breach("self-check", check.payload_errors, 0, one_line(why))
    if stressor is not None and not stressor.settled:
        yield Breach(
            "stressor-not-settled",
            stressor.settle_s,
            None,
            one_line(
                f"{stressor.name} did not settle before the sweep: "
                f"{stressor.error or 'no reason was recorded'}"
            ),
        )


def _console_breaches(boot: RawBoot) -> Iterator[Breach]:
    found = boot.splats or ()
    kills = [splat for splat in found if splat.pattern == OOM_KILL]
    invoked = [splat for splat in found if splat.pattern == OOM_INVOKED]
    splats = [splat for splat in found if splat.pattern not in (OOM_KILL, OOM_INVOKED)]
    if splats:
        yield Breach(
            "kernel-splat",
            len(splats),
            0,
            f"console line {splats[0].line_number}: {splats[0].pattern}: {splats[0].text}",
        )
    if kills or invoked:
        first = (kills or invoked)[0]
        # The kernel limits how often it prints either line; the more frequent one is nearer.
        yield Breach(
            "oom-kill",
            max(len(kills), len(invoked)),
            0,
            f"console line {first.line_number}: {first.text}",
        )
