"""Each messenger against the sandbox inbox: what arrives, and what a fault is taken for."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from node.errors import ConfigError, Forbidden, InvalidInput, Retryable, Unsupported
from orchestration import signatures
from orchestration.messengers import sms
from orchestration.messengers.chat import ChatMessenger, ChatSettings
from orchestration.messengers.message import (
    Message,
    OutcomeUnknown,
    RecipientRefused,
    email_address,
    mobile_number,
)
from orchestration.messengers.sandbox.server import InboxHandle, running_inbox
from orchestration.messengers.sms import SmsMessenger, SmsSettings
from orchestration.messengers.smtp import SmtpMessenger, SmtpSettings

MAIL = Message("person@example.org", "Time for a visit.\n.\nCall us.", "Your visit")
TEXT = Message("+12125550123", "Time for a visit.")


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[InboxHandle]:
    with running_inbox(tmp_path) as running:
        yield running


def mail_settings(inbox: InboxHandle) -> SmtpSettings:
    return SmtpSettings(
        "127.0.0.1",
        inbox.mail_port,
        "Sandbox Dental <office@sandbox-dental.example>",
        ca_file=inbox.ca_file,
        timeout_s=10.0,
    )


def text_settings(inbox: InboxHandle) -> SmsSettings:
    return SmsSettings(
        inbox.sms_url,
        inbox.account.key,
        inbox.account.number,
        hosts=("127.0.0.1",),
    )


def test_mail_arrives_over_verified_tls_as_it_was_written(inbox: InboxHandle) -> None:
    messenger = SmtpMessenger(mail_settings(inbox))
    message = replace(MAIL, stop_url="https://practice.example/m/stop/abc")
    receipt = messenger.send(message, "case:1:mail")
    (arrived,) = inbox.messages("smtp")
    assert (arrived.to, arrived.subject) == ("person@example.org", "Your visit")
    assert arrived.text.replace("\r\n", "\n").strip() == MAIL.text
    assert arrived.key == receipt.provider_id
    assert "List-Unsubscribe: <https://practice.example/m/stop/abc>" in arrived.headers
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in arrived.headers


def test_the_message_id_follows_from_the_key(inbox: InboxHandle) -> None:
    messenger = SmtpMessenger(mail_settings(inbox))
    first, second = messenger.send(MAIL, "a").provider_id, messenger.send(MAIL, "a").provider_id
    assert first == second != messenger.message_id("b")


def test_mail_that_was_taken_and_not_answered_is_in_doubt_for_ever(inbox: InboxHandle) -> None:
    messenger = SmtpMessenger(mail_settings(inbox))
    inbox.fault("commit_then_drop", "smtp")
    with pytest.raises(OutcomeUnknown):
        messenger.send(MAIL, "a")
    with pytest.raises(Unsupported):
        messenger.find("a")
    assert len(inbox.messages("smtp")) == 1


def test_a_mail_server_that_is_away_or_busy_is_tried_later(inbox: InboxHandle) -> None:
    messenger = SmtpMessenger(mail_settings(inbox))
    inbox.fault("busy", "smtp")
    for kind in ("busy", "down"):
        inbox.fault(kind, "smtp")  # type: ignore[arg-type]
        with pytest.raises(Retryable) as caught:
            messenger.send(MAIL, "a")
        assert not isinstance(caught.value, OutcomeUnknown)
    assert not inbox.messages()


def test_a_mailbox_that_is_not_there_is_told_apart(inbox: InboxHandle) -> None:
    inbox.fault("bounce", "smtp")
    with pytest.raises(RecipientRefused) as caught:
        SmtpMessenger(mail_settings(inbox)).send(MAIL, "a")
    assert not caught.value.is_opt_out
    assert "person@" not in str(caught.value)


def test_an_untrusted_mail_server_gets_nothing(inbox: InboxHandle) -> None:
    settings = replace(mail_settings(inbox), ca_file=None)
    with pytest.raises(ConfigError, match="not trusted"):
        SmtpMessenger(settings).send(MAIL, "a")
    assert not inbox.messages()


def test_mail_without_tls_stays_on_this_machine() -> None:
    with pytest.raises(ConfigError, match="this machine"):
        SmtpSettings("mail.example.org", 25, "a@example.org", security="none")


def test_a_text_message_is_one_message_under_its_key(inbox: InboxHandle) -> None:
    messenger = SmsMessenger(text_settings(inbox))
    first = messenger.send(TEXT, "k1")
    again = messenger.send(TEXT, "k1")
    assert (again.provider_id, again.already_there) == (first.provider_id, True)
    assert [each.text for each in inbox.messages("sms")] == [TEXT.text]
    assert messenger.find("k1") == again
    assert messenger.find("k2") is None


def test_a_text_message_whose_answer_was_lost_is_found_again(inbox: InboxHandle) -> None:
    messenger = SmsMessenger(text_settings(inbox))
    inbox.fault("commit_then_drop")
    with pytest.raises(OutcomeUnknown):
        messenger.send(TEXT, "k1")
    found = messenger.find("k1")
    assert found is not None
    assert found.provider_id == inbox.messages("sms")[0].id


def test_a_busy_provider_says_how_long_to_wait(inbox: InboxHandle) -> None:
    inbox.fault("busy")
    with pytest.raises(Retryable) as caught:
        SmsMessenger(text_settings(inbox)).send(TEXT, "k1")
    assert caught.value.retry_after_s == 2.0


def test_a_number_that_opted_out_at_the_provider_is_told_apart(inbox: InboxHandle) -> None:
    inbox.reply(TEXT.to, "stop")
    with pytest.raises(RecipientRefused) as caught:
        SmsMessenger(text_settings(inbox)).send(TEXT, "k1")
    assert caught.value.is_opt_out


def test_a_wrong_key_is_the_operators_to_mend(inbox: InboxHandle) -> None:
    with pytest.raises(ConfigError):
        SmsMessenger(replace(text_settings(inbox), key="other")).send(TEXT, "k1")


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.org/v1",  # no host we allow
        "http://sms.example.org/v1",  # no TLS
        "https://user@sms.example.org/v1",
        "https://169.254.169.254/latest",  # a cloud machine's own keys
        "ftp://sms.example.org/",
        "https://sms.example.org@evil.example.net/",
    ],
)
def test_nothing_is_sent_to_hosts_that_were_not_allowed(url: str) -> None:
    with pytest.raises(ConfigError):
        SmsSettings(url, "key", "+12125550100", hosts=("sms.example.org", "169.254.169.254"))
    with pytest.raises(ConfigError):
        ChatSettings(url, hosts=("sms.example.org", "169.254.169.254"))


def test_chat_takes_plain_text_and_cannot_be_asked(inbox: InboxHandle) -> None:
    messenger = ChatMessenger(ChatSettings(inbox.chat_url, ("127.0.0.1",)))
    messenger.send(Message("", "3 approvals wait.", "Bitewing"), "k1")
    assert inbox.messages("chat")[0].text == "Bitewing\n3 approvals wait."
    with pytest.raises(Unsupported):
        messenger.find("k1")
    inbox.fault("commit_then_drop", "chat")
    with pytest.raises(OutcomeUnknown):
        messenger.send(Message("", "again"), "k2")


@pytest.mark.parametrize(
    "broken", [{"to": "a@b.example\r\nBcc: c@d.example"}, {"subject": "a\nb"}, {"text": "  "}]
)
def test_a_message_that_would_smuggle_a_header_cannot_be_made(broken: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        replace(MAIL, **broken)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("(212) 555-0123", "+12125550123"),
        ("1 212.555.0123", "+12125550123"),
        ("+44 7700 900123", "+447700900123"),
        ("555-0123", None),
        ("112 555 0123", None),
        ("212 555 0123 x4", None),
        ("", None),
    ],
)
def test_telephone_numbers_are_read_as_the_front_desk_writes_them(
    written: str, number: str | None
) -> None:
    assert mobile_number(written) == number


@pytest.mark.parametrize(
    ("written", "is_good"),
    [
        (" a.b@example.org ", True),
        ("a@localhost", False),
        ("declined", False),
        ("a@b.example, c@d.example", False),
        ("a@b..example", False),
    ],
)
def test_mail_addresses_are_one_address(written: str, is_good: bool) -> None:
    assert (email_address(written) is not None) == is_good


def test_a_call_back_counts_only_when_freshly_signed() -> None:
    now = datetime(2026, 3, 8, 7, 0, tzinfo=UTC)
    body = json.dumps(
        {"type": "message.received", "event_id": "E1", "from": "+12125550123", "body": "Stop"}
    ).encode()
    header = signatures.sign("secret", body, now)
    signatures.verify("secret", body, header, now + timedelta(minutes=9))
    event = sms.read_event(body)
    assert isinstance(event, sms.ReplyEvent)
    assert (event.sender, event.text) == ("+12125550123", "Stop")
    for secret, content, given, at in (
        ("other", body, header, now),
        ("secret", body + b" ", header, now),
        ("secret", body, header, now + timedelta(minutes=11)),
        ("secret", body, "", now),
        ("", body, signatures.sign("", body, now), now),
    ):
        with pytest.raises(Forbidden):
            signatures.verify(secret, content, given, at)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"type":"message.received","event_id":"E","from":"nobody","body":"x"}',
        b'{"type":"message.status","id":"S1","status":"sent"}',
        b'{"type":"message.received","event_id":5,"from":"+12125550123","body":"x"}',
    ],
)
def test_call_backs_that_cannot_be_read_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        sms.read_event(body)


def test_call_backs_of_other_kinds_are_passed_over() -> None:
    assert sms.read_event(b'{"type":"account.updated"}') is None


def test_the_page_shows_messages_as_text(inbox: InboxHandle) -> None:
    SmsMessenger(text_settings(inbox)).send(replace(TEXT, text="<script>hello</script>"), "k")
    page = httpx2.get(inbox.page_url, trust_env=False)
    assert "&lt;script&gt;hello" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_faults_are_armed_from_outside(inbox: InboxHandle) -> None:
    where = f"{inbox.page_url}_sandbox/faults"
    assert httpx2.post(where, json={"kind": "busy", "door": "sms"}, trust_env=False).is_success
    assert httpx2.post(where, json={"kind": "nonsense"}, trust_env=False).status_code == 422
    with pytest.raises(Retryable):
        SmsMessenger(text_settings(inbox)).send(TEXT, "k")
