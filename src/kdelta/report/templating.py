# SPDX-License-Identifier: GPL-2.0-only
"""Jinja environments over the repository's ``report/`` folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from kdelta.errors import KdeltaError

TEMPLATES = "templates"
STYLE = "style"
SCRIPT = "script"
CAPTIONS = "captions"


def make_environment(assets: Path, **options: Any) -> jinja2.Environment:
    """An environment that fails on undefined names and keeps the templates' own line breaks.

    Args:
        assets: The folder that holds ``templates/``, ``style/``, ``script/`` and ``captions/``.
        **options: Further options of ``jinja2.Environment``.

    Raises:
        KdeltaError: The folder holds no templates.
    """
    folder = assets / TEMPLATES
    if not folder.is_dir():
        raise KdeltaError(
            f"{folder}: no such folder; name the repository's report/ folder, "
            "which holds the report's templates"
        )
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def read_asset(assets: Path, *parts: str) -> str:
    """The text of a file of the ``report/`` folder, such as a style sheet."""
    path = assets.joinpath(*parts)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise KdeltaError(f"{path}: not readable: {error.strerror}") from error
