"""``bitewing models``: what runs, what is intact, how it does in this practice."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from models import weights
from node.db.migrate import migrate
from node.db.session import Actor, begin, new_id, open_database
from node.db.tables import (
    analysis_run,
    finding,
    instance,
    review,
    shadow_run,
    study,
    user_account,
)
from node.domain.findings import (
    Box,
    DecisionState,
    Finding,
    FindingKind,
    ModelVersion,
)
from node.domain.review import (
    DecisionCounts,
    SignedFinding,
    SignedReview,
    finding_to_json,
    model_to_json,
)
from node.domain.teeth import Surface, Tooth

ACTOR = Actor("test", "main")
LIVE = ModelVersion("intraoral", "1.0.0", "a" * 64)
TRIAL = ModelVersion("intraoral", "1.1.0", "b" * 64)
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def bitewing(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node", "models", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={k: v for k, v in os.environ.items() if not k.startswith("BITEWING_")},
    )


def caries(tooth: str, surface: str, probability: float | None, model: ModelVersion | None = LIVE):
    box = Box(10, 10, 20, 20)
    surfaces = (Surface(surface),)
    return Finding(
        FindingKind.CARIES,
        box,
        Tooth(tooth),
        surfaces,
        probability=probability,
        model=model,
    )


class Practice:
    """A database with signed studies, as the node leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = open_database(f"sqlite:///{(folder / 'bitewing.sqlite').absolute()}")
        migrate(self.db)
        self.user = new_id()
        self.insert(
            user_account,
            id=self.user,
            username="dentist",
            display_name="A",
            role="dentist",
            password_hash="",
        )

    def insert(self, table: sa.Table, **values: object) -> None:
        with begin(self.db, ACTOR, "test") as tx:
            tx.conn.execute(table.insert().values(location_id="main", **values))
            tx.record("test")

    def sign(
        self,
        live: list[tuple[Finding, str]],
        added: list[Finding],
        trial: list[Finding] | None,
        signed_at: datetime = NOW,
    ) -> None:
        """One study of one image: live findings with their decision, marks added, the shadow's."""
        study_id, image_id, run_id = new_id(), new_id(), new_id()
        self.insert(
            study,
            id=study_id,
            study_instance_uid=new_id(),
            state="signed",
            match_state="unmatched",
            review_version=1,
            received_at=NOW,
            last_image_at=NOW,
        )
        self.insert(
            instance,
            id=image_id,
            study_id=study_id,
            sop_instance_uid=new_id(),
            sop_class_uid="1.2",
            transfer_syntax_uid="1.2",
            modality="IO",
            spacing_kind="unknown",
            sha256="0" * 64,
            size_bytes=1,
            storage_key=image_id,
            state="analysed",
            received_at=NOW,
        )
        self.insert(
            analysis_run,
            id=run_id,
            instance_id=image_id,
            pipeline="live",
            view="bitewing",
            models=[model_to_json(LIVE)],
            absent=[],
            notes=[],
            started_at=NOW,
            finished_at=NOW,
        )
        signed = []
        for mark, state in live:
            row = {**finding_to_json(mark), "id": new_id(), "state": state, "origin": "ai"}
            self.insert(
                finding,
                study_id=study_id,
                instance_id=image_id,
                run_id=run_id,
                created_at=NOW,
                decided_at=signed_at,
                **row,
            )
            if state != "rejected":
                signed.append(("ai", state, mark))
        signed += [("human", "accepted", mark) for mark in added]
        kept = tuple(
            SignedFinding(new_id(), image_id, "1.2.3", origin, DecisionState(state), mark, None)
            for origin, state, mark in signed
        )
        content = SignedReview(
            study_id=study_id,
            study_instance_uid="1.2",
            version=1,
            signer_id=self.user,
            signer_name="A",
            signer_role="dentist",
            signed_at=signed_at,
            statement="x",
            reason="",
            software_version="0",
            instances=((image_id, "1.2.3"),),
            findings=kept,
            models=(LIVE,),
            counts=DecisionCounts(len(live), 0, 0, 0, len(added)),
        )
        self.insert(
            review,
            id=new_id(),
            study_id=study_id,
            version=1,
            signed_by=self.user,
            signer_name="A",
            signer_role="dentist",
            statement="x",
            content_hash="0" * 64,
            content=content.to_json(),
            software_version="0",
            signed_at=signed_at,
        )
        self.insert(
            shadow_run,
            id=new_id(),
            instance_id=image_id,
            task="intraoral",
            version=TRIAL.version,
            model_digest=TRIAL.digest,
            pipeline="trial" if trial is not None else "",
            view="bitewing",
            findings=None if trial is None else [finding_to_json(mark) for mark in trial],
            teeth=None if trial is None else [],
            sites=None if trial is None else [],
            failure="" if trial is not None else "the image is broken",
            duration_ms=5,
            finished_at=NOW,
        )


@pytest.fixture
def practice(tmp_path: Path) -> Practice:
    opened = Practice(tmp_path)
    yield opened
    opened.db.dispose()


def test_the_list_names_every_network_and_its_role(tmp_path: Path) -> None:
    config = tmp_path / "bitewing.toml"
    config.write_text(
        f'[[analysis.models]]\ntask = "triage"\ndir = "{weights.DEFAULT_DIR}"\nrole = "shadow"\n'
        f'[[analysis.models]]\ntask = "intraoral"\ndir = "{tmp_path}"\nrole = "off"\n'
    )
    done = bitewing("list", "--config", config)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:3] == ["task", "version", "role"]
    assert [(line[0], line[2]) for line in lines if line[0] == "triage"] == [
        ("triage", "live"),
        ("triage", "shadow"),
    ]
    assert f"the folder {tmp_path} holds no weights for intraoral" in done.stdout


def test_verify_refuses_what_is_not_what_it_claims(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    good = bitewing("verify", weights.DEFAULT_DIR)
    assert good.returncode == 0, good.stderr + good.stdout
    assert good.stdout.count("ok  ") == len(weights.manifest(weights.DEFAULT_DIR))

    folder = tmp_path / "trial"
    shutil.copytree(weights.DEFAULT_DIR, folder)
    path = folder / "manifest.json"
    entries = json.loads(path.read_text())
    (folder / entries[0]["file"]).write_bytes(b"something else")
    bad = bitewing("verify", folder)
    assert bad.returncode == 2
    assert "SHA-256" in bad.stdout

    for change, words in (({"version": "9.0.0"}, "this program runs"), ({"task": "x"}, "unknown")):
        path.write_text(json.dumps([entries[0] | change]))
        refused = bitewing("verify", folder)
        assert refused.returncode == 2
        assert words in refused.stderr
    empty = bitewing("verify", tmp_path)
    assert (empty.returncode, "no manifest" in empty.stderr) == (2, True)


def test_shadow_and_live_are_set_against_what_was_signed(practice: Practice) -> None:
    for _ in range(3):
        practice.sign(
            live=[(caries("46", "M", 0.9), "accepted"), (caries("45", "D", 0.4), "rejected")],
            added=[caries("36", "M", None, None)],
            trial=[caries("46", "M", 0.8, TRIAL), caries("36", "M", 0.6, TRIAL)],
        )
    practice.sign([], [], trial=None)
    done = bitewing("compare", "--task", "intraoral", "--json", "--data-dir", practice.folder)
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    assert (one["version"], one["images"], one["studies"], one["failed"]) == ("1.1.0", 3, 3, 1)
    assert one["same_views"] == 3
    live, shadow = ({row["level"]: row for row in one[name]} for name in ("live", "shadow"))
    assert set(live) == {"tooth", "surface"}
    for level in ("tooth", "surface"):
        assert (live[level]["signed"], live[level]["said"], live[level]["both"]) == (6, 6, 3)
        assert live[level]["sensitivity"]["value"] == 0.5
        assert live[level]["precision"]["value"] == 0.5
        assert shadow[level]["sensitivity"]["value"] == 1.0
        assert shadow[level]["precision"] == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert shadow[level]["is_few"]

    table = bitewing("compare", "--task", "intraoral", "--data-dir", practice.folder).stdout
    assert "too few to say" in table
    assert "favour the live" in table
    later = bitewing(
        "compare", "--task", "intraoral", "--since", "2026-06-01", "--data-dir", practice.folder
    )
    assert "0 signed images" in later.stdout
    none = bitewing("compare", "--task", "triage", "--data-dir", practice.folder)
    assert "no network has run" in none.stdout


def test_questions_that_make_no_sense_are_refused(practice: Practice) -> None:
    for arguments in (
        ("compare", "--task", "horoscope"),
        ("compare", "--task", "triage", "--since", "yesterday"),
        ("calibration", "--since", "32.1."),
    ):
        done = bitewing(*arguments, "--data-dir", practice.folder)
        assert done.returncode == 2
        assert done.stderr.startswith("bitewing:")


def test_the_calibration_report_counts_the_practices_own_decisions(practice: Practice) -> None:
    for number in range(60):
        is_kept = number % 2 == 0
        practice.sign(
            live=[(caries("46", "M", 0.9 if is_kept else 0.1), ("rejected", "edited")[is_kept])],
            added=[],
            trial=None,
        )
    done = bitewing("calibration", "--json", "--data-dir", practice.folder)
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    assert (one["model"], one["kind"]) == ("intraoral 1.0.0", "caries")
    assert (one["count"], one["kept"], one["patients"], one["is_few"]) == (60, 30, 60, False)
    assert one["brier"]["value"] == pytest.approx(0.01)
    assert one["expected_error"]["value"] == pytest.approx(0.1)
    assert sum(part["count"] for part in one["bins"]) == 60
    text = bitewing("calibration", "--data-dir", practice.folder).stdout
    assert "60 decided suggestions" in text
    assert "No threshold is changed" in text


def test_without_decisions_the_report_says_so(practice: Practice) -> None:
    assert "no suggestion" in bitewing("calibration", "--data-dir", practice.folder).stdout
