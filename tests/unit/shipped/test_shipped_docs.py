# SPDX-License-Identifier: GPL-2.0-only
"""The documents agree with the code and with each other."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from shipped_support import ROOT, read, shipped

from kdelta import arms, experiment, regimes
from kdelta.architecture import Architecture, Evidence
from kdelta.commands.check import SCHEMAS
from kdelta.config import RunConfig, load_experiment
from kdelta.experiment import Experiment
from kdelta.measure.progress import block_seconds, trace_seconds
from kdelta.workload.chosen import Chosen
from kdelta.workload.declaration import Workload as Declaration
from kdelta.yaml_file import FileModel

# Heading of config/README.md -> the model that its table describes.
SECTIONS: dict[str, type[BaseModel]] = {
    "`config.yaml`": RunConfig,
    "The experiment file": Experiment,
    "`kernel`": arms.Kernel,
    "`kernel.source` of type `debian`": arms.DebianSource,
    "`kernel.source` of type `git`": arms.GitSource,
    "`kernel.config`": arms.KernelConfig,
    "`arms.<name>`": arms.Arm,
    "`guest`": arms.Guest,
    "`workloads.<name>`": Chosen,
    "`regimes.<name>`": regimes.Regime,
    "`regimes.<name>.stressor`": regimes.Stressor,
    "`regimes.<name>.expects`": regimes.Expectation,
    "`protocols.<name>`": regimes.Protocol,
    "`mechanism`": experiment.Mechanism,
    "`statistics`": experiment.Statistics,
    "`validity`": experiment.Validity,
    "`environment`": experiment.Environment,
    "`negative_controls`": experiment.NegativeControl,
    "`claims`": experiment.Claims,
    "`mail`": experiment.Mail,
}


def sections(text: str) -> dict[str, str]:
    """Second-level heading -> what is below it."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table_rows(section: str, first_column: str) -> dict[str, list[str]]:
    """First cell (without backticks) -> all cells, of the table with that first column."""
    rows = {}
    inside = False
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith(f"| {first_column} |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            rows[cells[0].strip("` ")] = cells
    return rows


def listed(section: str) -> dict[str, str]:
    """Of a list of "- `key` (type, default): meaning", the first list: key -> type and default."""
    text = " ".join(re.split(r"^#", section, flags=re.MULTILINE)[0].split())
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)  # a link's words
    return dict(re.findall(r"- `([\w<>]+)` \(([^)]*)\)", text))


def documented_default(field: FieldInfo) -> str:
    """A field's default as config/README.md writes it."""
    return "required" if field.is_required() else f"default {_default(field)}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    match value:
        case None:
            return "none"
        case BaseModel():
            return "as below"
        case bool():
            return f"`{str(value).lower()}`"
        case "":
            return '`""`'
        case tuple():
            return f"`[{', '.join(map(str, value))}]`"
        case float() | int():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def models_of(module: object) -> set[type[BaseModel]]:
    return {
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value is not BaseModel
        and not name.startswith("_")
    }


def test_every_model_has_a_section() -> None:
    described = {*SECTIONS.values(), Declaration}  # docs/workloads.md
    modules = (arms, regimes, experiment)
    found = set().union(*map(models_of, modules)) - {
        FileModel,
        Architecture,
        Evidence,
    }  # files of the project's own
    assert found | set(SCHEMAS.values()) == described


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_keys_and_their_defaults_are_described(heading: str) -> None:
    described = listed(sections(read(ROOT / "config/README.md"))[heading])
    fields = {
        field.alias or name: documented_default(field)
        if name != "program"
        else "default the workload's name"
        for name, field in SECTIONS[heading].model_fields.items()
        if name != "declaration"  # is workload.yaml's; and program's default depends on the name
    }
    assert {key: words.endswith(f", {fields[key]}") for key, words in described.items()} == (
        dict.fromkeys(fields, True)
    )


def test_every_counter_of_an_expectation_is_described() -> None:
    rows = table_rows(
        sections(read(ROOT / "config/README.md"))["`regimes.<name>.expects`"], "counter"
    )
    assert tuple(rows) == get_args(regimes.Counter)


def test_the_columns_of_claims_are_described() -> None:
    """Those that the reader takes, with the flagship's factors for `<factor>`."""
    rows = listed(sections(read(ROOT / "config/README.md"))["A file of claims"])
    header = read(ROOT / "config/claims/pipe-prealloc.csv").partition("\n")[0].split(",")
    factors = list(load_experiment(ROOT / RunConfig().experiment).matrix)
    described = list(rows)
    place = described.index("<factor>")
    assert described[:place] + factors + described[place + 1 :] == header


def test_the_first_screen_shows_a_result() -> None:
    text = read(ROOT / "README.md")
    first_screen = "\n".join(text.splitlines()[:40])
    assert "make report" in first_screen
    assert "<!-- result:begin -->" in first_screen
    assert text.index("<!-- result:begin -->") < text.index("<!-- result:end -->")


def test_the_experiment_in_the_readme_is_one() -> None:
    block = re.search(r"^```yaml\n(.*?)^```", read(ROOT / "README.md"), re.DOTALL | re.MULTILINE)
    assert block is not None
    assert len(block[1].splitlines()) <= 20
    mine = Experiment.model_validate(yaml.safe_load(block[1]))
    assert list(mine.booted_arms()) == ["baseline", "patched", "control"]
    assert mine.kernel is not None
    assert all((ROOT / name).is_file() for name in mine.kernel.config.fragments)


def flagship() -> Experiment:
    return Experiment.model_validate(yaml.safe_load(read(ROOT / RunConfig().experiment)))


def measuring_s(experiment: Experiment, protocol: str) -> float:
    """Seconds that a protocol takes besides the builds, about."""
    chosen = experiment.of_protocol(protocol)
    blocks_s = sum(block_seconds(chosen, protocol, r) for r in chosen.protocol_regimes(protocol))
    traces_s = len(chosen.mechanism_regimes(protocol)) * trace_seconds(chosen)
    return chosen.protocols[protocol].blocks * blocks_s + traces_s


def told_time(text: str) -> float:
    """Seconds of `about 12 min` or `about 1.7 h`."""
    match = re.fullmatch(r"about ([0-9.]+) (min|h)", text)
    assert match is not None, text
    return float(match[1]) * (60 if match[2] == "min" else 3600)


def protocol_rows(text: str) -> dict[str, list[str]]:
    rows = table_rows(text, "protocol")
    return {name.partition("`")[0]: cells for name, cells in rows.items()}


def test_the_times_in_the_readme_follow_from_the_protocols() -> None:
    experiment = flagship()
    rows = protocol_rows(read(ROOT / "README.md"))
    assert rows.keys() == experiment.protocols.keys()
    for name, protocol in experiment.protocols.items():
        _, _, blocks, rounds, whole = rows[name]
        assert int(blocks) == protocol.blocks
        count, seconds = rounds.removesuffix(" s").split(" x ")
        assert int(count) == protocol.rounds
        slices = {protocol.slice_s(regime) for regime in protocol.duration_s}
        assert float(seconds) in slices
        assert told_time(whole) == pytest.approx(measuring_s(experiment, name), rel=0.07)


def test_the_numbers_of_the_artifact_appendix_are_the_readmes() -> None:
    experiment, text = flagship(), " ".join(read(ROOT / "docs/artifact.md").split())
    count = len(experiment.regimes)
    cells = math.prod(map(len, experiment.matrix.values()))
    assert f"a matrix of {cells} cells in {count} regimes" in text
    # Baseline and control are what the other arms are compared with.
    quick = experiment.of_protocol(RunConfig().protocol)
    timed, tested = quick.protocol_regimes(RunConfig().protocol), len(quick.booted_arms()) - 2
    assert f"ends with {len(timed)} regimes x {cells} cells x {tested} arm x {{" in text
    for name, row in protocol_rows(read(ROOT / "README.md")).items():
        assert f"`{name}`: {row[-1]}" in text


def headings(text: str) -> set[str]:
    """The anchors that a Markdown file offers, as hosting sites make them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def markdown_files() -> list[Path]:
    return [path for path in shipped() if path.suffix == ".md"]


PAGES = pytest.mark.parametrize(
    "page", markdown_files(), ids=lambda path: str(path.relative_to(ROOT))
)


@PAGES
def test_lines_are_short(page: Path) -> None:
    lines = enumerate(read(page).splitlines(), start=1)
    assert [(number, line) for number, line in lines if len(line) > 100] == []


@PAGES
def test_relative_links_resolve(page: Path) -> None:
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", read(page), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        known = headings(read(file)) if anchor and file.is_file() else {anchor}
        if not file.exists() or anchor not in known:
            broken.append(target)
    assert broken == []
