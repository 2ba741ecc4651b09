# SPDX-License-Identifier: GPL-2.0-only
"""LaTeX to PDF, byte-identical for the same source."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kdelta.cache import copy_atomically
from kdelta.errors import KdeltaError

DEBIAN_PACKAGES = ("texlive-latex-base", "texlive-latex-recommended", "lmodern")
_RUNS = 2
_TIMEOUT_S = 180
_EPOCH = "0"


def compile_pdf(tex: Path, pdf: Path) -> None:
    """Compile a document twice, so that its references settle.

    Paths in the document are relative to its own folder. Auxiliary files stay in a temporary
    folder; after a failure the log is kept beside the wanted PDF.

    Args:
        tex: The source.
        pdf: Written only when the compilation succeeds.

    Raises:
        KdeltaError: pdflatex is missing, hangs or fails; the message holds its first error.
    """
    if not tex.is_file():
        raise KdeltaError(f"{tex}: no such file; write the LaTeX source first")
    if shutil.which("pdflatex") is None:
        raise KdeltaError(
            f"pdflatex is not installed, so {pdf} cannot be made; "
            f"on Debian: apt-get install --no-install-recommends {' '.join(DEBIAN_PACKAGES)}"
        )
    pdf.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kdelta-latex-") as name:
        folder = Path(name)
        for _ in range(_RUNS):
            _run(tex, pdf, folder)
        copy_atomically(folder / f"{tex.stem}.pdf", pdf)


def _run(tex: Path, pdf: Path, folder: Path) -> None:
    command = [
        *("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"),
        *("-file-line-error", f"-output-directory={folder}", tex.name),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "FORCE_SOURCE_DATE": "1"}
    # Broken log lines would cut the error message short.
    environment["max_print_line"] = "1000"
    try:
        result = subprocess.run(
            command,
            cwd=tex.resolve().parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log = _keep_log(folder / f"{tex.stem}.log", pdf)
        raise KdeltaError(
            f"{tex}: pdflatex did not end within {_TIMEOUT_S} s; log: {log}"
        ) from None
    if result.returncode != 0:
        text = result.stdout.decode("utf-8", "replace")
        log = _keep_log(folder / f"{tex.stem}.log", pdf)
        raise KdeltaError(f"{tex}: pdflatex failed: {first_error(text)}; log: {log}")


def first_error(log: str) -> str:
    """The first error that pdflatex printed, as ``! ...`` or ``file:line: ...``."""
    for line in log.splitlines():
        if line.startswith("!"):
            return line
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[1].isdigit():
            return f"! {line}"
    return "! no error line was printed"


def _keep_log(log: Path, pdf: Path) -> Path:
    kept = pdf.with_suffix(".log")
    if log.is_file():
        shutil.copyfile(log, kept)
    return kept
