"""The texts of reminders: short, plain, and without anything about the patient's mouth."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import ConfigError
from orchestration.messengers.message import Channel
from orchestration.recall.sequence import SEQUENCES
from orchestration.recall.templates import Filling, Template, load, reading_grade, render

ALL = sorted(load().texts.values(), key=lambda each: each.id)
FULL = Filling(
    "Main Street Dental",
    "212-555-0100",
    "https://book.example/main",
    "https://node.example/messages/stop/abc",
    "Ana",
)
#: Words that would tell what somebody has, had or is to have done.
TELLING = re.compile(
    r"caries|cavit|decay|gum|perio|bone|pocket|plaque|tartar|clean|prophy|x-?ray|image|scan|crown|"
    r"root|implant|filling|extract|disease|risk|treat|diagnos|finding|insur|balance|overdue|"
    r"limpieza|enc[ií]a|muela|diente|radiograf|hueso|tratamiento|enfermedad|seguro|D\d{4}",
    re.IGNORECASE,
)


@pytest.mark.parametrize("template", ALL, ids=lambda each: each.id)
def test_a_text_tells_nothing_of_the_patient_and_reads_easily(template: Template) -> None:
    rendered = render(template, FULL)
    said = f"{rendered.subject}\n{rendered.text}"
    assert not TELLING.search(re.sub(r"https?://\S+", "", said))
    assert FULL.practice in said
    assert "{" not in said
    assert reading_grade(re.sub(r"https?://\S+", "", rendered.text), template.language) <= 6.0
    if template.channel is Channel.SMS:
        assert "STOP" in rendered.text
        assert len(rendered.text) <= 306  # two segments
        assert FULL.first_name not in rendered.text
    else:
        assert FULL.stop_url in rendered.text


def test_every_step_has_its_texts_in_both_languages_and_by_both_ways() -> None:
    names = {step.template for steps in SEQUENCES.values() for step in steps}
    for name in names:
        for language in ("en", "es"):
            for channel in (Channel.EMAIL, Channel.SMS):
                assert load().find(name, language, channel).language == language


def test_words_of_a_patient_are_never_a_template() -> None:
    template = load().find("invite", "en", Channel.EMAIL)
    words = "{practice.__class__} {0} %s {{url}}"
    rendered = render(template, replace(FULL, first_name=words))
    assert words in rendered.text


def test_lines_without_their_words_are_left_out() -> None:
    template = load().find("invite", "en", Channel.EMAIL)
    rendered = render(template, Filling("Main Street Dental", ""))
    assert "Call us" not in rendered.text
    assert "Book online" not in rendered.text
    assert rendered.text.startswith("Hello,")
    assert "\n\n\n" not in rendered.text


def test_without_a_page_to_lead_to_messages_are_ended_by_telephone() -> None:
    for language, words in (("en", "call 212-555-0100"), ("es", "llame al 212-555-0100")):
        template = load().find("invite", language, Channel.EMAIL)
        last = render(template, Filling("Main Street Dental", "212-555-0100")).text.splitlines()[-1]
        assert words in last


def test_names_cannot_break_a_text() -> None:
    template = load().find("invite", "en", Channel.EMAIL)
    filling = Filling("Main Street Dental", "1", first_name="{practice}\r\nBcc: x")
    rendered = render(template, filling)
    assert "Hello {practice}" in rendered.text
    assert "Bcc" not in rendered.text.splitlines()[1:2]


def test_own_templates_replace_shipped_ones_and_change_the_digest(tmp_path: Path) -> None:
    file = tmp_path / "invite.toml"
    file.write_text('[en]\nversion = "2"\n[en.sms]\ntext = "{practice}: come and see us. {stop}"\n')
    mine = load(str(tmp_path)).find("invite", "en", Channel.SMS)
    shipped = load().find("invite", "en", Channel.SMS)
    assert mine.id == "invite/en/sms@2"
    assert mine.digest != shipped.digest
    assert load(str(tmp_path)).find("invite", "en", Channel.EMAIL).version == "1"


@pytest.mark.parametrize(
    "text",
    [
        '[en]\nversion = "1"\n[en.sms]\ntext = "{practice} {tooth} {stop}"',
        '[en]\nversion = "1"\n[en.sms]\ntext = "{practice}"',
        '[en]\nversion = "1"\n[en.sms]\ntext = "{stop}"',
        '[en]\nversion = "1"\n[en.sms]\ntext = "{practice {stop}"',
        '[en]\nversion = "1"\n[en.email]\ntext = "{practice} {stop}"',
        '[en.sms]\ntext = "{practice} {stop}"',
        '[fr]\nversion = "1"',
        "not toml",
    ],
)
def test_a_template_that_cannot_be_right_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "invite.toml").write_text(text)
    with pytest.raises(ConfigError, match="invite"):
        load(str(tmp_path))
