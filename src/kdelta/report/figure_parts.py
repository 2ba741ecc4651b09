# SPDX-License-Identifier: GPL-2.0-only
"""The pages of a figure that needs more than one, as SVG files beside the whole."""

from __future__ import annotations

import re
from pathlib import Path


def figure_parts(folder: Path, stem: str) -> list[Path]:
    """``<stem>-1.svg`` and so on, in order; none where the figure fits one page."""
    name = re.compile(re.escape(stem) + r"-(\d+)\.svg")
    found = {
        int(match[1]): path
        for path in folder.glob("*.svg")
        if (match := name.fullmatch(path.name)) is not None
    }
    return [found[number] for number in sorted(found)]
