"""Documents by SFTP and as text: filed once, whole, under the right patient, and fetched again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from node.errors import ConfigError, InvalidInput, NotFound, Rejected, Retryable
from pms_writeback.opendental import ChartDocument, OpenDental
from pms_writeback.pms import OutcomeUnknown, UploadDocument
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import running
from pms_writeback.sandbox.sftp import sftp_serving

WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
REF = "ref:BW-0123456789"
CONTENT = bytes(range(256)) * 800


@pytest.fixture
def site(tmp_path):
    with sftp_serving(tmp_path / "sftp") as serving:
        yield serving


@pytest.fixture
def clinic(site, tmp_path):
    with running(tmp_path / "pms.sqlite", sftp_port=site.port) as handle:
        yield handle


@pytest.fixture
def connect(configure, clinic, site):
    @contextmanager
    def opened(office=clinic, **changes: object) -> Iterator[OpenDental]:
        by_sftp = {
            "sftp_host": site.host,
            "sftp_port": site.port,
            "sftp_user": site.user,
            "sftp_password": site.password,
            "sftp_host_key": site.host_key,
            "sftp_folder": "drop",
        }
        with closing(open_pms(configure(office, **{**by_sftp, **changes}))) as pms:
            assert isinstance(pms, OpenDental)
            yield pms

    return opened


def report(patient_key="1", content=CONTENT, ref=REF) -> UploadDocument:
    return UploadDocument(
        patient_key=patient_key,
        filename="report.pdf",
        extension=".pdf",
        content=content,
        description="Signed report",
        category="AI Imaging",
        image_type="Document",
        tooth_numbers=("3", "14"),
        created=WHEN,
        ref=ref,
    )


def left_behind(site) -> list[str]:
    return [each.name for each in site.folder.rglob("*") if each.is_file()]


def posts(office) -> list[str]:
    return [entry.path for entry in office.log() if entry.method == "POST"]


def test_a_document_goes_by_sftp_and_is_a_real_file_at_once(clinic, site, connect):
    with connect() as pms:
        assert pms.find(report()) is None
        made = pms.execute(report())
        found = pms.find(report())
    (row,) = clinic.rows("documents")
    assert (made.key, found.key, found.is_complete) == (str(row["DocNum"]), made.key, True)
    assert row["FileName"] == "BW-0123456789.pdf"
    assert row["ToothNumbers"] == "3,14"
    assert row["PatNum"] == 1
    assert REF in str(row["Description"])
    assert clinic.document(int(made.key)) == CONTENT
    assert posts(clinic) == ["/documents/UploadSftp"]
    assert left_behind(site) == [], "a patient's document stays nowhere on the way"


def test_without_sftp_it_goes_as_text(clinic, connect):
    with connect(sftp_host="") as pms:
        made = pms.execute(report())
    assert posts(clinic) == ["/documents/Upload"]
    assert clinic.document(int(made.key)) == CONTENT


def test_an_office_that_would_drop_the_token_gets_text(configure, site, connect, tmp_path):
    with (
        running(tmp_path / "old.sqlite", od_version="24.1.10", sftp_port=site.port) as old,
        connect(old) as pms,
    ):
        pms.execute(report())
        assert posts(old) == ["/documents/Upload"]
        assert pms.find(report()) is not None


def test_a_large_document_goes_by_sftp_only(clinic, connect):
    large = report(content=b"x" * 13_000_000)
    with connect(sftp_host="") as pms, pytest.raises(InvalidInput, match="too large"):
        pms.execute(large)
    with connect() as pms:
        assert clinic.document(int(pms.execute(large).key)) == large.content


def test_a_lost_answer_is_found_and_the_file_taken_away(clinic, site, connect):
    with connect() as pms:
        clinic.fault("commit_then_drop", methods=("POST",))
        with pytest.raises(OutcomeUnknown):
            pms.execute(report())
        assert left_behind(site) == ["BW-0123456789.pdf"]
        found = pms.find(report())
        assert found is not None
        assert not found.is_complete, "its file still lies on the SFTP server"
        assert pms.execute(report()).key == found.key
        assert pms.find(report()).is_complete
    assert left_behind(site) == []
    assert len(clinic.rows("documents")) == 1


@pytest.mark.parametrize("fault", ["full", "cut"])
def test_a_broken_transfer_files_nothing_and_goes_on_later(clinic, site, connect, fault):
    with connect() as pms:
        if fault == "full":
            site.faults.is_full = True
        else:
            site.faults.cut_after, site.faults.cuts = 50_000, 1
        with pytest.raises(Retryable) as broken:
            pms.execute(report())
        assert not isinstance(broken.value, OutcomeUnknown), "certainly not filed"
        assert posts(clinic) == []
        site.faults.is_full = False
        made = pms.execute(report())
    assert clinic.document(int(made.key)) == CONTENT
    assert left_behind(site) == []


@pytest.mark.parametrize(("status", "error"), [(400, Rejected), (401, ConfigError)])
def test_a_refused_document_stays_nowhere(clinic, site, connect, status, error):
    with connect() as pms:
        clinic.fault("status", status=status, text="DocCategory is invalid.", methods=("POST",))
        with pytest.raises(error):
            pms.execute(report())
    assert left_behind(site) == []


def test_an_unknown_server_is_shown_nothing(clinic, site, connect, tmp_path):
    with (
        sftp_serving(tmp_path / "impostor") as impostor,
        connect(sftp_port=impostor.port) as pms,
        pytest.raises(ConfigError, match="in between"),
    ):
        pms.execute(report())
    assert posts(clinic) == []


def test_secrets_and_names_stay_out_of_errors(clinic, site, connect):
    with connect() as pms:
        site.faults.refuses_login = True
        with pytest.raises(ConfigError) as refused:
            pms.execute(report())
    assert site.password not in str(refused.value)


def test_earlier_documents_are_listed_and_fetched(clinic, site, connect):
    with connect() as pms:
        pms.execute(report())
        (listed,) = pms.documents("1")
        assert (listed.patient_key, listed.category, listed.tooth_numbers) == (
            "1",
            "AI Imaging",
            "3,14",
        )
        assert listed.created_at == WHEN
        assert listed.has_file
        assert pms.document(listed) == CONTENT
        assert pms.documents("2") == ()
    assert left_behind(site) == []


def test_what_nobody_has_opened_cannot_be_fetched_yet(clinic, connect):
    with connect(sftp_host="") as pms:
        pms.execute(report())
    with connect() as pms:
        (listed,) = pms.documents("1")
        assert not listed.has_file
        with pytest.raises(NotFound):
            pms.document(listed)


def test_another_patients_document_is_not_fetched(clinic, connect):
    with connect() as pms:
        made = pms.execute(report(patient_key="2"))
        strange = ChartDocument(made.key, "1", "", "", "", None, True)
        with pytest.raises(NotFound):
            pms.document(strange)


def test_fetching_needs_a_folder(clinic, connect):
    with connect() as pms:
        pms.execute(report())
        (listed,) = pms.documents("1")
    with connect(sftp_host="") as pms, pytest.raises(Rejected, match="sftp_host"):
        pms.document(listed)


def test_times_of_documents_are_the_offices(clinic, connect):
    later = report(ref="ref:BW-later")
    with connect() as pms:
        pms.execute(later)
        (listed,) = pms.documents("1")
    assert listed.created_at is not None
    assert abs(listed.created_at - WHEN) < timedelta(seconds=1)
