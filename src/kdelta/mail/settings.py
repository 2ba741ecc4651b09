# SPDX-License-Identifier: GPL-2.0-only
"""The experiment file's `mail`: how a series is mailed. No part of what is measured."""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Annotated

from pydantic import AfterValidator, Field

from kdelta.yaml_file import FileModel

# What git puts into a header as it stands, or, with a name beyond ASCII, encoded.
_MAILBOX = r'[^\s<>@,"]+@[^\s<>@,"]+'
_ADDRESS = re.compile(rf'(?:"[^"\\]+"|[^"<>@,]+) <(?P<named>{_MAILBOX})>|(?P<bare>{_MAILBOX})')


def _checked_address(text: str) -> str:
    found = _ADDRESS.fullmatch(text) if text.isprintable() else None
    mailbox = found and (found["named"] or found["bare"])
    if not mailbox or not mailbox.isascii() or not parseaddr(text)[1]:
        raise ValueError(f"{text!r} is not one mail address, such as Name <name@example.org>")
    return text


Address = Annotated[str, AfterValidator(_checked_address)]

Tabled = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Mail(FileModel):
    """What `kdelta series` is told by the experiment file."""

    arm: str = Field(min_length=1, description="the arm whose patches are mailed")
    prose: str = Field(
        min_length=1, description="text file with the author's own words for the cover letter"
    )
    version: Annotated[int, Field(ge=1, le=99)] = Field(
        default=1, description="2 for [PATCH v2 1/3], and so on"
    )
    prefix: str = Field(
        default="PATCH",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]*$",
        max_length=40,
        description="what stands in the subject's brackets before the version, for example "
        "RFC PATCH",
    )
    tables: tuple[Tabled, ...] = Field(
        default=(),
        strict=False,
        description="metrics whose delta tables the cover letter has, by name; without it the "
        "primary one. Of the others it has a line",
    )
    to: tuple[Address, ...] = Field(default=(), strict=False, description="To: of every mail")
    cc: tuple[Address, ...] = Field(default=(), strict=False, description="Cc: of every mail")

    @property
    def file_prefix(self) -> str:
        """What the names of the mails' files begin with, as `git format-patch -v` has it."""
        return f"v{self.version}-" if self.version > 1 else ""
