# SPDX-License-Identifier: GPL-2.0-only
"""The experiment's `mail`, what goes without it, and the sender: the identity that git knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdelta.errors import KdeltaError
from kdelta.mail.choice import chosen_mail, prose_of, sender_of, sender_or_nobody
from tests.conftest import Project

Data = dict[str, Any]
MAIL = {"arm": "patched", "prose": "prose.txt"}


@pytest.fixture(autouse=True)
def _prose(project: Project) -> None:
    """The file that `MAIL` names is there; each test may write its own."""
    (project.root / "prose.txt").touch()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arm": "baseline"}, "'baseline' is not an arm with patches.*patched, other"),
        ({"arm": "absent"}, "'absent' is not an arm with patches"),
        ({"to": ["nobody"]}, "mail.to.*'nobody' is not one mail address"),
        ({"cc": ["a@b.org\nBcc: c@d.org"]}, "mail.cc.*is not one mail address"),
        ({"cc": ["a@b.org, c@d.org"]}, "mail.cc.*is not one mail address"),
        ({"cc": ["Jörg <jörg@example.org>"]}, "mail.cc.*is not one mail address"),
        ({"cc": ["A\u2028B <a@b.org>"]}, "mail.cc.*is not one mail address"),
        ({"prefix": "PATCH]\nX: "}, "mail.prefix"),
        ({"version": 0}, "mail.version"),
        ({"sender": "me"}, "mail.sender"),
    ],
)
def test_mistakes(project: Project, small: Data, changes: Data, said: str) -> None:
    with pytest.raises(KdeltaError, match=f"(?s){said}"):
        project.load({**small, "mail": {**MAIL, **changes}})


@pytest.mark.parametrize(
    "address",
    [
        "a@b.org",
        "A B <a@b.org>",
        '"A. B." <a-b+c@d.example.org>',
        "Jörg Beispiel <joerg@example.org>",
        "你好 <a@b.org>",
    ],
)
def test_addresses(project: Project, small: Data, address: str) -> None:
    mail = project.load({**small, "mail": {**MAIL, "to": [address]}}).mail
    assert mail is not None
    assert mail.to == (address,)


def test_how_it_is_mailed_is_no_part_of_what_is_measured(project: Project, small: Data) -> None:
    plain, mailed = project.load(small), project.load({**small, "mail": MAIL})
    assert mailed.mail is not None
    assert mailed.model_dump_json(by_alias=True) == plain.model_dump_json(by_alias=True)


def test_the_arm(project: Project, small: Data) -> None:
    mailed = project.load({**small, "mail": MAIL})
    assert chosen_mail(mailed, None, "x.yaml").arm == "patched"
    assert chosen_mail(mailed, "other", "x.yaml").arm == "other"
    with pytest.raises(KdeltaError, match=r"x\.yaml: 'baseline' is not an arm with patches"):
        chosen_mail(mailed, "baseline", "x.yaml")


def test_the_arm_goes_without_saying_only_where_there_is_one(project: Project, small: Data) -> None:
    with pytest.raises(KdeltaError, match=r"x\.yaml: mail\.arm: not given.*patched, other"):
        chosen_mail(project.load(small), None, "x.yaml")
    del small["arms"]["other"]
    assert chosen_mail(project.load(small), None, "x.yaml").arm == "patched"


def test_prose(project: Project, small: Data) -> None:
    with pytest.raises(KdeltaError, match=r"neither mail\.prose .* nor a summary"):
        prose_of(project.load(small), project.root)
    summarised = project.load({**small, "summary": "A long story. " * 20})
    assert max(map(len, prose_of(summarised, project.root).splitlines())) <= 72
    (project.root / "prose.txt").write_text("My words.\n")
    assert prose_of(project.load({**small, "mail": MAIL}), project.root) == "My words."


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only settings of git."""
    file = tmp_path / "gitconfig"
    file.write_text("")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    return file


def test_the_sender(config: Path, tmp_path: Path) -> None:
    config.write_text('[user]\n\tname = "Zoë  O. Public"\n\temail = z@example.org\n')
    found = sender_of(tmp_path)
    assert str(found) == "Zoë O. Public <z@example.org>"
    assert sender_or_nobody(tmp_path) == str(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'git config --global user.name "Your Name" && git config --global user.email'),
        ("[user]\n\tname = A\n", "no email was given.*Set it: .*git config --global user.email"),
        ("[user]\n\temail = a@b\n", "no name was given.*Set it: git config --global user.name"),
        ("[user]\n\tname = A\n\temail = nowhere\n", "'nowhere', which is no mail address"),
        ("[user]\n\tname = A\n\temail = ü@example.org\n", "no mail address"),
    ],
)
def test_a_sender_that_is_none(config: Path, tmp_path: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(KdeltaError, match=said):
        sender_of(tmp_path)
    assert sender_or_nobody(tmp_path) == ""
