"""``bitewing rollout`` and ``bitewing pilot``, as somebody at a terminal uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from node.__main__ import cli
from node.db.migrate import migrate
from node.db.session import Actor, open_database
from node.errors import BitewingError, Forbidden, InvalidInput, NotFound, Rejected
from node.web.accounts import WrongCredentials, create_user

PASSWORD = "a-long-test-password"


class Terminal:
    """Runs commands on one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "bitewing.toml"
        self.config.write_text(
            f'[node]\ndata_dir = "{folder}"\n[rollout]\nmin_studies = 0\n'
            "[encryption]\nenabled = false\n"
        )

    def __call__(self, *arguments: str, answer: str = "") -> str:
        command = [*arguments, "--config", str(self.config)]
        done = CliRunner().invoke(cli, command, input=answer)
        if isinstance(done.exception, BitewingError):
            raise done.exception
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output


@pytest.fixture
def bitewing(tmp_path: Path) -> Terminal:
    db: sa.Engine = open_database(f"sqlite:///{tmp_path / 'bitewing.sqlite'}")
    migrate(db)
    for name, role in (("lin", "dentist"), ("pat", "office_manager")):
        create_user(
            db, Actor("test", "main"), username=name, display_name=name.title(), role=role,
            password=PASSWORD,
        )  # fmt: skip
    db.dispose()
    return Terminal(tmp_path)


def decides(name: str) -> tuple[str, ...]:
    return ("--user", name, "--password", PASSWORD)


def test_from_silence_to_assist_and_back(bitewing: Terminal) -> None:
    assert "everything is silent" in bitewing("rollout", "status")
    with pytest.raises(Rejected, match="clinical lead"):
        bitewing("rollout", "set", "finding:caries", "assist", *decides("lin"))
    with pytest.raises(NotFound, match="rollout report"):
        bitewing("rollout", "acknowledge", *decides("lin"), "--yes")
    assert "0 studies" in bitewing("rollout", "report")
    told = bitewing("rollout", "acknowledge", *decides("lin"), answer="y\n")
    assert "Not cleared as a medical device" in told
    assert "Intraoral network" in told, "the model card in full"
    assert "acknowledged: intraoral" in told
    bitewing("rollout", "set", "finding:*", "assist", "--reason", "trial", *decides("lin"))
    status = bitewing("rollout", "status")
    assert "finding:* assist" in status
    assert "acknowledged by Lin" in status
    assert bitewing("rollout", "back") == "* at most silent\n"
    assert "* at most silent" in bitewing("rollout", "status")
    assert "hold again" in bitewing("rollout", "lift", "*", *decides("lin"))
    assert "was not held" in bitewing("rollout", "lift", "*", *decides("lin"))
    assert "no finding is shown" in bitewing("rollout", "withdraw")
    assert "nobody has acknowledged" in bitewing("rollout", "status")


def test_who_may_decide_what(bitewing: Terminal) -> None:
    bitewing("rollout", "report")
    with pytest.raises(Forbidden, match="lead the roll-out"):
        bitewing("rollout", "acknowledge", *decides("pat"), "--yes")
    with pytest.raises(Forbidden):
        bitewing("rollout", "set", "finding:*", "assist", *decides("pat"))
    with pytest.raises(WrongCredentials):
        bitewing("rollout", "set", "finding:*", "silent", "--user", "lin", "--password", "wrong")
    assert bitewing("rollout", "set", "workflow:recall", "assist", *decides("pat"))
    assert bitewing("rollout", "set", "finding:*", "silent", *decides("pat"))


def test_saying_no_to_the_text_records_nothing(bitewing: Terminal) -> None:
    bitewing("rollout", "report")
    done = CliRunner().invoke(
        cli,
        ["rollout", "acknowledge", *decides("lin"), "--config", str(bitewing.config)],
        input="n\n",
    )
    assert done.exit_code != 0
    assert "nobody has acknowledged" in bitewing("rollout", "status")


@pytest.mark.parametrize(
    "words",
    [
        ("rollout", "set", "finding:bogus", "assist"),
        ("rollout", "set", "finding:caries", "loud"),
        ("rollout", "set", "finding:caries", "assist", "--view", "sideways"),
    ],
)
def test_what_makes_no_sense_is_refused(bitewing: Terminal, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        bitewing(*words, *decides("lin"))


def test_a_study_that_is_not_here_cannot_be_explained(bitewing: Terminal) -> None:
    with pytest.raises(NotFound):
        bitewing("rollout", "explain", "1.2.3")


def test_a_calibration_is_proposed_and_one_that_says_nothing_is_not_approved(
    bitewing: Terminal,
) -> None:
    assert bitewing("rollout", "calibration") == ""
    assert bitewing("rollout", "calibration", "propose") == "1: proposed\n"
    with pytest.raises(InvalidInput, match="--user and --reason"):
        bitewing("rollout", "calibration", "approve", "1")
    why = ("--reason", "looks right")
    with pytest.raises(Forbidden):
        bitewing("rollout", "calibration", "approve", "1", *decides("pat"), *why)
    with pytest.raises(Rejected, match="changes nothing"):
        bitewing("rollout", "calibration", "approve", "1", *decides("lin"), *why)
    assert "refused" in bitewing("rollout", "calibration", "refuse", "1", *decides("lin"), *why)
    with pytest.raises(InvalidInput, match="takes list"):
        bitewing("rollout", "calibration", "apply")


def test_a_pilot_without_studies_says_so_and_writes_its_paper(
    bitewing: Terminal, tmp_path: Path
) -> None:
    out = tmp_path / "paper"
    assert "0 studies" in bitewing("pilot", "--out", str(out))
    assert json.loads((out / "agreement.json").read_text())["source"] == "pilot"
    assert (out / "agreement.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InvalidInput, match="no folder"):
        bitewing("pilot", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no DICOM image"):
        bitewing("pilot", str(tmp_path / "empty"))
