# SPDX-License-Identifier: GPL-2.0-only
"""The commands that the documents show; `test_documents.py` sees to it that each is tried."""

from __future__ import annotations

import re

from tests.conftest import CHECKOUT

PAGES = ["README.md", "config/README.md", "results/reference/README.md"]
PAGES += [str(path.relative_to(CHECKOUT)) for path in sorted((CHECKOUT / "docs").glob("*.md"))]


def shown(page: str) -> list[str]:
    """The commands in a page's blocks without a language, and those that its list begins with."""
    text = (CHECKOUT / page).read_text()
    lines = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language:
            continue
        joined = re.sub(r"(\\|&&)\n *", lambda end: end[1].strip("\\") + " ", block)
        lines += [line.partition("  #")[0].strip() for line in joined.splitlines()]
    for item in re.findall(r"^- (`.*(?:\n  .*)*)", text, re.MULTILINE):
        program = re.match(r"`((?:kdelta|snakemake|make) [^`]+)`", item)
        if program:
            lines.append(program[1])
            # Of `kdelta VERB WORDS`, options that the sentence names: `--brief`, `A A --arm-a x`.
            for more in re.findall(r"[:;(.] *`((?:A A )?--[^`]+)`", item):
                lines.append(f"{' '.join(program[1].split()[:2])} {more}")
    programs = r"(kdelta|snakemake|make|git|sha256sum|cmp|cd|\.|\(cd) "
    return [" ".join(line.split()) for line in lines if re.match(programs, line)]


COMMANDS = sorted({command for page in PAGES for command in shown(page)})


def commands(pattern: str) -> list[str]:
    return [command for command in COMMANDS if re.match(pattern, command)]
