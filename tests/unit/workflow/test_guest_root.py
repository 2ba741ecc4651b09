# SPDX-License-Identifier: GPL-2.0-only
"""The root of guests of another architecture: what it is made of, and what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.apt_state import parse_uris
from kdelta.workload.guest_root import (
    PYTHON,
    RECORD,
    find_program,
    root_of,
    wanted_packages,
)

CHECKOUT = Path(__file__).resolve().parents[3]
NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True)
VERSIONS = st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,15}", fullmatch=True)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.lists(st.tuples(NAMES, VERSIONS, DIGESTS), max_size=5))
def test_packages_are_read_from_what_apt_prints(packages: list[tuple[str, str, str]]) -> None:
    lines = ["Reading package lists...", "The following NEW packages will be installed:", "  dash"]
    for name, version, digest in packages:
        file = f"{name}_{version.replace(':', '%3a')}_arm64.deb"
        lines.append(f"'http://host/pool/{file.replace('%', '%25')}' {file} 123 SHA256:{digest}")
    found = parse_uris("\n".join(lines))
    assert [(p.name, p.version, p.sha256) for p in found] == packages


def test_what_guests_need_follows_from_the_experiment() -> None:
    data = yaml.safe_load((CHECKOUT / "config/experiments/pipe-prealloc.yaml").read_text())
    flagship = Experiment.model_validate(data, context={"root": CHECKOUT})
    assert {"python3", "stress-ng"} <= set(wanted_packages(flagship))
    calm = flagship.model_copy(
        update={"regimes": {n: r for n, r in flagship.regimes.items() if not r.stressor}}
    )
    assert "stress-ng" not in wanted_packages(calm)


def root(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return folder


def test_a_program_is_found_where_guests_have_it(tmp_path: Path) -> None:
    made = root(tmp_path, "usr/bin/cat", "usr/sbin/mkswap", "usr/bin/both", "usr/sbin/both")
    assert find_program("cat", made) == Path("/usr/bin/cat")
    assert find_program("mkswap", made) == Path("/usr/sbin/mkswap")
    assert find_program("both", made) == Path("/usr/bin/both")
    assert find_program("dog", made) is None
    assert find_program("sh", None) is not None  # of this host


def test_the_hosts_root_has_no_record(tmp_path: Path) -> None:
    assert root_of(tmp_path, tmp_path / "cache") is None


def test_a_root_that_is_gone_or_has_no_python_is_one_message(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (tmp_path / RECORD).write_text(json.dumps({"key": "ab12"}))
    with pytest.raises(KdeltaError, match=r"ab12: the guests' root .* no longer in the cache; del"):
        root_of(tmp_path, cache)
    made = root(cache / "roots/ab12", "usr/bin/cat")
    with pytest.raises(KdeltaError, match=r"ab12: there is no /usr/bin/python3 in this root"):
        root_of(tmp_path, cache)
    root(made, PYTHON)
    assert root_of(tmp_path, cache) == made
