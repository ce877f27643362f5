"""The clearinghouse adapter against the sandbox payer, with all that goes wrong on a wire."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from node.errors import ConfigError, Conflict, InvalidInput, Retryable
from orchestration.payers import claim837
from orchestration.payers.acknowledgements import Verdict, read_277ca, read_999
from orchestration.payers.claim import Attachment, Report
from orchestration.payers.clearinghouse import (
    Clearinghouse,
    ClearinghouseSettings,
    OutcomeUnknown,
    PayerMail,
    Photo,
)
from orchestration.payers.eligibility import compose_270, read_271
from orchestration.payers.remittance import read_835
from orchestration.payers.sandbox.server import PayerHandle, running_payer
from tests.orchestration.payers.examples import CROWN, ENVELOPE, predetermination
from tests.orchestration.payers.test_payer_answers import QUESTION

FILM = Photo("case1-film1", "30-periapical.jpg", "image/jpeg", b"\xff\xd8 not really a picture")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def payer(tmp_path: Path, clock: Clock) -> Iterator[PayerHandle]:
    with running_payer(tmp_path, clock=clock) as handle:
        yield handle


@pytest.fixture
def house(payer: PayerHandle) -> Iterator[Clearinghouse]:
    opened = Clearinghouse(ClearinghouseSettings(payer.url, payer.api_key, ("127.0.0.1",), 5.0))
    yield opened
    opened.close()


def claim(control_number: str, claim_id: str = "BW1") -> str:
    attachment = Attachment(Report.FILMS, "EL", control_number)
    asked = predetermination(CROWN, id=claim_id, attachments=(attachment,))
    return claim837.compose(asked, replace(ENVELOPE, control=9), "BITEWING", "SANDBOXCH")


def all_mail(house: Clearinghouse) -> list[PayerMail]:
    found: list[PayerMail] = []
    cursor = ""
    while True:
        mails, following = house.inbox(cursor)
        found += mails
        if following in (cursor, "0"):
            return found
        cursor = following


def test_a_claim_goes_out_and_its_answers_come_back(
    payer: PayerHandle, house: Clearinghouse, clock: Clock
) -> None:
    number = house.attach(FILM)
    assert house.attach(FILM) == number
    assert house.find_attachment("case1-film1") == number
    house.submit("s1", claim(number))
    house.submit("s1", claim(number))
    assert house.find_submission("s1")
    assert not house.find_submission("s2")
    assert all_mail(house) == []
    clock.now += timedelta(hours=1)
    syntax, front = all_mail(house)
    assert read_999(syntax.content)[0].verdict is Verdict.ACCEPTED
    (answer,) = read_277ca(front.content)
    assert (answer.claim_id, answer.verdict) == ("BW1", Verdict.ACCEPTED)
    clock.now += timedelta(days=3)
    last = all_mail(house)[-1]
    assert (last.kind, last.submission_id) == ("835", "s1")
    (paid,) = read_835(last.content)
    assert paid.claims[0].expected == 580
    assert len(payer.desk.submissions()) == 1


def test_what_was_lost_is_looked_for_before_it_is_sent_again(
    payer: PayerHandle, house: Clearinghouse
) -> None:
    payer.fault("commit_then_drop", methods=("PUT",))
    with pytest.raises(OutcomeUnknown):
        house.attach(FILM)
    number = house.find_attachment(FILM.reference)
    assert number is not None
    payer.fault("commit_then_drop", methods=("PUT",))
    with pytest.raises(OutcomeUnknown):
        house.submit("s1", claim(number))
    assert house.find_submission("s1")
    payer.fault("drop", methods=("PUT",))
    with pytest.raises(OutcomeUnknown):
        house.submit("s2", claim(number, "BW2"))
    assert not house.find_submission("s2")


def test_being_away_is_for_later_and_a_refusal_is_not(
    payer: PayerHandle, house: Clearinghouse
) -> None:
    payer.fault("down", count=3)
    for call in (
        lambda: house.submit("s1", "x"),
        lambda: house.inbox(""),
        lambda: house.ask("x"),
    ):
        with pytest.raises(Retryable) as caught:
            call()
        assert not isinstance(caught.value, OutcomeUnknown)
    payer.desk.is_offline = True
    with pytest.raises(Retryable):
        house.inbox("")
    payer.desk.is_offline = False
    with pytest.raises(InvalidInput):
        house.submit("s1", "no claim at all")
    with pytest.raises(InvalidInput):
        house.ask("no question")
    number = house.attach(FILM)
    with pytest.raises(Conflict):
        house.attach(replace(FILM, content=b"other"))
    house.submit("s1", claim(number))
    with pytest.raises(Conflict):
        house.submit("s1", claim(number, "BW2"))


def test_a_wrong_key_and_a_foreign_host_are_for_the_operator(payer: PayerHandle) -> None:
    wrong = Clearinghouse(ClearinghouseSettings(payer.url, "nonsense", ("127.0.0.1",)))
    with pytest.raises(ConfigError, match="api_key"):
        wrong.inbox("")
    wrong.close()
    for url, hosts in (
        ("https://evil.example/v1", ("payer.example",)),
        ("http://payer.example/v1", ("payer.example",)),
        ("ftp://payer.example/v1", ("payer.example",)),
    ):
        with pytest.raises(ConfigError, match=r"payers\.url"):
            ClearinghouseSettings(url, "k", hosts)
    with pytest.raises(ConfigError, match="api_key"):
        ClearinghouseSettings("https://payer.example/v1", "", ("payer.example",))


def test_eligibility_is_answered_at_once_and_a_cut_answer_is_noticed(
    payer: PayerHandle, house: Clearinghouse
) -> None:
    (read,) = read_271(house.ask(compose_270(QUESTION, ENVELOPE)))
    assert read.trace == "REQ1"
    payer.fault("malformed")
    with pytest.raises(InvalidInput, match="cut off"):
        read_271(house.ask(compose_270(QUESTION, ENVELOPE)))


@pytest.mark.parametrize("kind", ["duplicate", "out_of_order", "malformed", "eob_pdf"])
def test_answers_come_as_the_fault_says(
    payer: PayerHandle, house: Clearinghouse, clock: Clock, kind: str
) -> None:
    payer.fault(kind)  # type: ignore[arg-type]  # one of the faults
    number = house.attach(FILM)
    house.submit("s1", claim(number))
    clock.now += timedelta(days=4)
    mails = all_mail(house)
    kinds = [mail.kind for mail in mails]
    match kind:
        case "duplicate":
            assert len(mails) == 6
            assert len({mail.id for mail in mails}) == 3
        case "out_of_order":
            assert kinds == ["999", "835", "277CA"]
        case "malformed":
            broken, whole = (mail for mail in mails if mail.kind == "835")
            with pytest.raises(InvalidInput):
                read_835(broken.content)
            assert read_835(whole.content)
        case "eob_pdf":
            assert kinds == ["999", "277CA", "EOB"]
            assert mails[-1].content.startswith(b"%PDF")


def test_an_unknown_control_number_is_refused_at_the_front_end(
    house: Clearinghouse, clock: Clock
) -> None:
    house.submit("s1", claim("SBX999999"))
    clock.now += timedelta(days=4)
    kinds = [mail.kind for mail in all_mail(house)]
    assert kinds == ["999", "277CA"]


def test_it_shows_a_page_and_keeps_everything_when_started_again(
    tmp_path: Path, clock: Clock
) -> None:
    with running_payer(tmp_path, clock=clock) as first:
        settings = ClearinghouseSettings(first.url, first.api_key, ("127.0.0.1",))
        house = Clearinghouse(settings)
        house.submit("s1", claim(house.attach(FILM)))
        house.close()
        page = httpx2.get(first.page_url, trust_env=False)
        assert "s1" in page.text
        assert "SBX000001" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        said = {"kind": "offline"}
        assert httpx2.post(
            f"{first.page_url}_sandbox/faults", json=said, trust_env=False
        ).is_success
        wrong = httpx2.post(f"{first.page_url}_sandbox/faults", json={"kind": "x"}, trust_env=False)
        assert wrong.status_code == 422
    with running_payer(tmp_path, clock=clock) as second:
        house = Clearinghouse(ClearinghouseSettings(second.url, second.api_key, ("127.0.0.1",)))
        assert house.find_submission("s1")
        clock.now += timedelta(days=4)
        assert len(all_mail(house)) == 3
        house.close()
