"""Every way to a laboratory passes the same suite against the sandbox laboratory."""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import paramiko
import pytest

from node.config import read_config
from node.errors import ConfigError, Rejected, Retryable, Unsupported
from orchestration.labs.api import ApiLab, ApiSettings
from orchestration.labs.directory import Directory, describe
from orchestration.labs.email import EmailLab, EmailSettings
from orchestration.labs.package import write_package
from orchestration.labs.partner import Dispatch, LabPartner, OutcomeUnknown
from orchestration.labs.rulebook import load_rulebook
from orchestration.labs.sandbox.server import USER, LabHandle, running_lab
from orchestration.labs.sftp import SftpLab, SftpSettings
from orchestration.messengers.sandbox.server import InboxHandle, running_inbox
from orchestration.messengers.smtp import SmtpMessenger, SmtpSettings
from tests.orchestration.labs.prescriptions import CROWN, ZONE
from tests.orchestration.labs.test_lab_package import SIGNATURE, signed_case

NOW = datetime(2026, 11, 2, 15, tzinfo=UTC)
BOOK = load_rulebook()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabHandle]:
    with running_lab(tmp_path / "lab", clock=Clock()) as running:
        yield running


def api(lab: LabHandle) -> ApiLab:
    return ApiLab(ApiSettings(lab.url, lab.key, timeout_s=5.0))


def sftp_settings(lab: LabHandle) -> SftpSettings:
    return SftpSettings(
        "127.0.0.1", lab.sftp.port, USER, lab.host_key, password=lab.password, timeout_s=10.0
    )


def sftp(lab: LabHandle) -> SftpLab:
    return SftpLab(sftp_settings(lab))


WAYS: list[Callable[[LabHandle], LabPartner]] = [api, sftp]


def dispatch(number: str = "BW-1001", shade: str = "A2") -> Dispatch:
    rx, files = signed_case()
    rx = replace(rx, case_number=number, shade=replace(CROWN.shade, value=shade))
    out = io.BytesIO()
    write_package(out, rx.signed(SIGNATURE), BOOK, files, ZONE)
    content = out.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    return Dispatch(
        number, f"{number}_crown_19.zip", sha256, len(content), rx.due_at,
        lambda: io.BytesIO(content),
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_package_arrives_whole_and_once(
    lab: LabHandle, way: Callable[[LabHandle], LabPartner]
) -> None:
    partner, case = way(lab), dispatch()
    assert partner.find(case) is None
    partner.submit(case)
    lab.work()
    found = partner.find(case)
    assert found is not None
    assert found.already_there
    partner.submit(case)
    lab.work()
    assert list(lab.bench.jobs) == ["BW-1001"]
    assert hashlib.sha256(lab.bench.package("BW-1001")).hexdigest() == case.sha256


@pytest.mark.parametrize("way", WAYS)
def test_other_bytes_under_the_same_number_are_refused(
    lab: LabHandle, way: Callable[[LabHandle], LabPartner]
) -> None:
    partner = way(lab)
    partner.submit(dispatch())
    lab.work()
    with pytest.raises(Rejected):
        partner.submit(dispatch(shade="B2"))
    with pytest.raises(Rejected):
        partner.find(dispatch(shade="B2"))
    assert lab.bench.jobs["BW-1001"].sha256 == dispatch().sha256


@pytest.mark.parametrize("way", WAYS)
def test_words_and_invoices_are_read(
    lab: LabHandle, way: Callable[[LabHandle], LabPartner]
) -> None:
    partner = way(lab)
    partner.submit(dispatch())
    lab.work()
    assert partner.updates("BW-1001") == []
    lab.skip(days=15)
    words = partner.updates("BW-1001")
    assert [update.status for update in words] == ["acknowledged", "in_production", "shipped"]
    assert words[-1].tracking.startswith("SBX")
    (bill,) = partner.invoices(date(2026, 11, 1))
    assert (bill.case_number, bill.amount) == ("BW-1001", Decimal("185.00"))
    assert partner.invoices(date(2027, 1, 1)) == []
    assert partner.updates("BW-9999") == []


@pytest.mark.parametrize("way", WAYS)
def test_a_laboratory_that_is_down_is_waited_for(
    lab: LabHandle, way: Callable[[LabHandle], LabPartner]
) -> None:
    partner, case = way(lab), dispatch()
    lab.fault("down")
    with pytest.raises(Retryable):
        partner.submit(case)
    with pytest.raises(Retryable):
        partner.find(case)
    lab.fault("clear")
    partner.submit(case)
    lab.work()
    assert partner.find(case) is not None


def test_a_lost_answer_is_unknown_and_found_again(lab: LabHandle) -> None:
    partner, case = api(lab), dispatch()
    lab.fault("commit_then_drop")
    with pytest.raises(OutcomeUnknown):
        partner.submit(case)
    found = partner.find(case)
    assert found is not None
    assert found.lab_case == "L-00001"
    assert lab.bench.jobs["BW-1001"].packages == 1


def test_a_busy_laboratory_says_how_long(lab: LabHandle) -> None:
    lab.fault("busy")
    with pytest.raises(Retryable) as caught:
        api(lab).submit(dispatch())
    assert caught.value.retry_after_s == 2.0


def test_a_slow_laboratory_is_unknown(lab: LabHandle) -> None:
    lab.fault("slow", seconds=3)
    partner = ApiLab(ApiSettings(lab.url, lab.key, timeout_s=0.5))
    with pytest.raises(Retryable):
        partner.submit(dispatch())


def test_a_wrong_key_is_for_the_operator(lab: LabHandle) -> None:
    with pytest.raises(ConfigError):
        ApiLab(ApiSettings(lab.url, "wrong")).submit(dispatch())


@pytest.mark.parametrize("url", ["http://lab.example/", "ftp://x/", "https://user@lab.example/"])
def test_an_address_without_tls_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        ApiSettings(url, "key")


def test_an_unsigned_or_foreign_package_is_refused(lab: LabHandle) -> None:
    foreign = replace(dispatch(), case_number="BW-1002")
    with pytest.raises(Rejected):
        api(lab).submit(foreign)
    assert lab.bench.jobs == {}


# --- SFTP ---


def test_another_host_key_stops_everything(lab: LabHandle) -> None:
    other = paramiko.ECDSAKey.generate()
    settings = replace(sftp_settings(lab), host_key=f"{other.get_name()} {other.get_base64()}")
    with pytest.raises(ConfigError, match="host key"):
        SftpLab(settings).submit(dispatch())
    assert list((lab.drop.folder / "incoming").iterdir()) == []


def test_a_key_file_logs_in(lab: LabHandle, tmp_path: Path) -> None:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    lab.sftp.client_key = key
    settings = replace(sftp_settings(lab), password="", key_file=tmp_path / "id")
    SftpLab(settings).submit(dispatch())
    lab.work()
    assert list(lab.bench.jobs) == ["BW-1001"]


def test_a_wrong_password_is_for_the_operator(lab: LabHandle) -> None:
    with pytest.raises(ConfigError):
        SftpLab(replace(sftp_settings(lab), password="wrong")).submit(dispatch())


@pytest.mark.parametrize(
    "change", [{"host_key": "ssh-rsa"}, {"host_key": "x !!"}, {"host": ""}, {"password": ""}]
)
def test_settings_that_cannot_work_are_refused(lab: LabHandle, change: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        replace(sftp_settings(lab), **change)  # type: ignore[arg-type]


def test_a_package_without_its_sum_is_not_taken_and_sent_again(lab: LabHandle) -> None:
    case = dispatch()
    with case.open() as file:
        (lab.drop.folder / "incoming" / case.file_name).write_bytes(file.read()[:100])
    lab.work()
    assert lab.bench.jobs == {}
    sftp(lab).submit(case)
    lab.work()
    assert lab.bench.jobs["BW-1001"].sha256 == case.sha256


def test_a_half_written_word_is_left_for_later(lab: LabHandle) -> None:
    sftp(lab).submit(dispatch())
    lab.work()
    (lab.drop.folder / "status" / "half.json").write_text('{"id": ')
    lab.skip(hours=2)
    assert [u.status for u in sftp(lab).updates("BW-1001")] == ["acknowledged"]


def test_the_drop_shows_nothing_above_itself(lab: LabHandle) -> None:
    settings = replace(sftp_settings(lab), status_folder="../..", invoice_folder="/etc")
    assert SftpLab(settings).updates("BW-1001") == []
    with pytest.raises(Retryable):
        SftpLab(settings).invoices(date(2026, 1, 1))


# --- e-mail ---


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[InboxHandle]:
    with running_inbox(tmp_path) as running:
        yield running


def mailer(inbox: InboxHandle) -> SmtpMessenger:
    return SmtpMessenger(
        SmtpSettings("127.0.0.1", inbox.mail_port, "office@dental.example", ca_file=inbox.ca_file)
    )


def test_a_package_goes_by_mail_as_a_link_or_attached(inbox: InboxHandle) -> None:
    linked = EmailSettings("cases@lab.example")
    EmailLab(linked, mailer(inbox), lambda d: f"https://o.example/{d.case_number}").submit(
        dispatch()
    )
    (mail,) = inbox.messages("smtp")
    assert "https://o.example/BW-1001" in mail.text
    assert dispatch().sha256 in mail.text
    EmailLab(EmailSettings("cases@lab.example", "attachment"), mailer(inbox), None).submit(
        dispatch("BW-1002")
    )
    assert len(inbox.messages("smtp")) == 2


def test_a_lost_mail_is_for_a_person(inbox: InboxHandle) -> None:
    partner = EmailLab(EmailSettings("cases@lab.example", "attachment"), mailer(inbox), None)
    inbox.fault("commit_then_drop", "smtp")
    with pytest.raises(Rejected, match="ask the laboratory"):
        partner.submit(dispatch())
    with pytest.raises(Unsupported):
        partner.find(dispatch())
    partner.submit(dispatch())  # a person asked, and it was not there
    first, second = inbox.messages("smtp")
    assert first.key == second.key


def test_links_need_a_public_address(inbox: InboxHandle) -> None:
    with pytest.raises(ConfigError):
        EmailLab(EmailSettings("cases@lab.example"), mailer(inbox), None)
    with pytest.raises(ConfigError):
        EmailSettings("nobody")


def test_the_bench_survives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    with running_lab(tmp_path / "lab", clock=clock) as first:
        api(first).submit(dispatch())
        first.skip(hours=2)
        key = first.key
    clock.now += timedelta(days=1)
    with running_lab(tmp_path / "lab", clock=clock) as again:
        assert again.key == key
        again.work()
        words = api(again).updates("BW-1001")
    assert [update.status for update in words] == ["acknowledged", "in_production"]


@pytest.mark.parametrize(
    ("labs", "pms", "is_fine", "words"),
    [
        ({}, {}, True, "none configured"),
        ({"partners": "api"}, {"days_after": 45}, False, "nobody may sign"),
        ({"partners": "api", "prescribers": 1}, {}, False, "days_after is 7"),
        ({"partners": "sftp", "prescribers": 1}, {"days_after": 45}, True, "1 may sign"),
    ],
)
def test_check_says_what_is_wrong_with_the_laboratories(
    lab: LabHandle, labs: dict[str, object], pms: dict[str, object], is_fine: bool, words: str
) -> None:
    section = dict(labs)
    if "partners" in section:
        section["partners"] = [lab.settings(str(section["partners"]))]
    if "prescribers" in section:
        section["prescribers"] = [{"user": "a", "name": "A", "licence_number": "1"}]
    config = read_config(environment={}, overrides={"labs": section, "pms": pms})
    verdict, said = describe(config)
    assert (verdict, words in said) == (is_fine, True), said
    assert lab.key not in said


def test_two_laboratories_need_two_keys(lab: LabHandle) -> None:
    section = {"partners": [lab.settings(), lab.settings("sftp")]}
    with pytest.raises(ConfigError, match="one key"):
        describe(read_config(environment={}, overrides={"labs": section}))


def test_the_only_dentist_prescribes_for_every_provider() -> None:
    def names(*prescribers: dict[str, str]) -> list[str]:
        rows = [{"user": "u", "licence_number": "1", **each} for each in prescribers]
        directory = Directory(
            read_config(environment={}, overrides={"labs": {"prescribers": rows}})
        )
        found = [directory.prescriber_of_provider(key) for key in ("1", "2", "")]
        return [each.name if each else "" for each in found]

    assert names({"name": "A"}) == ["A", "A", "A"]
    assert names({"name": "A", "provider": "1"}) == ["A", "", ""]
    assert names({"name": "A"}, {"name": "B", "provider": "2"}) == ["", "B", ""]
