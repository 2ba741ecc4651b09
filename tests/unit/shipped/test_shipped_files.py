# SPDX-License-Identifier: GPL-2.0-only
"""What ships: scripts parse, the lock is complete, nothing names this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from shipped_support import ROOT, lock_lines, locked, read, shipped

GROUPS = ("run", "test")
# Those of the supported Debian releases, and what lies between.
PYTHONS = ("3.11", "3.12", "3.13")


def shell_scripts() -> list[Path]:
    return [p for p in shipped() if re.match(r"#!.*\b(ba)?sh\b", read(p).partition("\n")[0])]


def test_shell_scripts_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in shell_scripts()}
    assert {"setup/install.sh", ".ci/run"} <= names


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda path: path.name)
def test_shell_script_parses(script: Path) -> None:
    shell = "bash" if "bash" in read(script).partition("\n")[0] else "sh"
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["setup/install.sh", ".ci/run"])
def test_what_is_started_by_name_is_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


def test_every_locked_package_has_a_hash() -> None:
    assert len(lock_lines()) > 50
    assert [line.split()[0] for line in lock_lines() if "--hash=sha256:" not in line] == []


def test_the_lock_names_no_place_to_get_packages_from() -> None:
    places = r"://|--(extra-)?index-url|--find-links|--trusted-host"
    assert not re.search(places, read(ROOT / "requirements.lock"))


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_one_version_of_everything_that_the_project_asks_for(python: str) -> None:
    versions: dict[str, str] = {}
    for pin in locked(python):
        name = canonicalize_name(pin.name)
        assert name not in versions, f"{name} is locked twice for Python {python}"
        (exact,) = pin.specifier
        assert exact.operator == "=="
        versions[name] = exact.version
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
        *project["build-system"]["requires"],
    ]
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements.lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}: {version}"
        )


def registry_hosts() -> set[str]:
    """The hosts that this machine gets packages from, as pip and apt are set up here."""
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    environment = " ".join(value for name, value in os.environ.items() if name.startswith("PIP_"))
    places = [pip, environment]
    for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"):
        for path in Path("/etc/apt").glob(pattern):
            lines = read(path).splitlines()
            places += [line for line in lines if not line.lstrip().startswith("#")]
    urls = re.findall(r"\bhttps?://[^\s'\"]+", " ".join(places))
    return {host for url in urls if (host := urlsplit(url).hostname)}


def test_no_file_names_a_package_registry_of_this_machine() -> None:
    hosts = registry_hosts()
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in shipped()
        for host in hosts
        if host in read(path)
    ]
    assert found == []


def test_no_file_holds_the_path_of_this_checkout() -> None:
    # As a whole path: a checkout in /src must not match every mention of src/.
    here = re.compile(rf"(?<![\w./}}-]){re.escape(str(ROOT))}(?![\w-])")
    assert [str(path.relative_to(ROOT)) for path in shipped() if here.search(read(path))] == []


def test_every_source_file_says_its_licence() -> None:
    suffixes = {".py", ".c", ".h", ".sh", ".smk", ".j2", ".config"}
    sources = [
        path
        for path in shipped()
        if (path.suffix in suffixes or path.name in ("Makefile", "Snakefile"))
        and read(path).strip()
    ]
    assert len(sources) > 50
    silent = [
        str(path.relative_to(ROOT))
        for path in sources
        if "SPDX-License-Identifier:" not in "".join(read(path).splitlines(keepends=True)[:3])
    ]
    assert silent == []


def test_the_licence_is_the_one_that_is_claimed() -> None:
    text = read(ROOT / "LICENSE")
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 2, June 1991" in text
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    assert project["license"] == "GPL-2.0-only"


def test_citation() -> None:
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    assert str(citation["cff-version"]) == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["authors"]
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]


def test_workflow_catalogue_entry_parses() -> None:
    entry = yaml.safe_load(read(ROOT / ".snakemake-workflow-catalog.yml"))
    assert {"mandatory-flags", "software-stack-deployment", "report"} == entry["usage"].keys()


@pytest.mark.parametrize("group", GROUPS)
def test_every_system_package_has_a_reason(group: str) -> None:
    lines = read(ROOT / "setup" / f"packages-{group}.txt").splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages
    form = re.compile(
        r"[a-z0-9][a-z0-9+.-]+( \| [a-z0-9][a-z0-9+.-]+)*( \[[a-z0-9]+\])? +# \S.{10,}"
    )
    assert [line for line in packages if not form.fullmatch(line)] == []


def test_no_system_package_is_listed_twice() -> None:
    names = [
        name.strip()
        for group in GROUPS
        for line in read(ROOT / "setup" / f"packages-{group}.txt").splitlines()
        for name in line.partition("#")[0].split("|")
        if name.strip()
    ]
    assert len(names) == len(set(names))
