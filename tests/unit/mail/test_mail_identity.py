# SPDX-License-Identifier: GPL-2.0-only
"""Who mails: the identity that git knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.mail.identity import git_identity, identity_or_nobody


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only settings of git."""
    file = tmp_path / "gitconfig"
    file.write_text("")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return file


def test_the_identity(config: Path, tmp_path: Path) -> None:
    config.write_text('[user]\n\tname = "Zoë  O. Public"\n\temail = z@example.org\n')
    found = git_identity(tmp_path)
    assert str(found) == "Zoë O. Public <z@example.org>"
    assert identity_or_nobody(tmp_path) == str(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'git config --global user.name "Your Name" && git config --global user.email'),
        ("[user]\n\tname = A\n", "user.email not set.*Set it: git config --global user.email"),
        ("[user]\n\temail = a@b\n", "user.name not set.*Set it: git config --global user.name"),
        ("[user]\n\tname = A\n\temail = nowhere\n", "'nowhere', which is no mail address"),
        ("[user]\n\tname = A\n\temail = ü@example.org\n", "no mail address"),
    ],
)
def test_an_identity_that_is_none(config: Path, tmp_path: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(KdeltaError, match=said):
        git_identity(tmp_path)
    assert identity_or_nobody(tmp_path) == ""
