"""The texts of reminders: TOML files, one a template, each language with a version of its own.

Texts have slots for the practice and the greeting only: no template can name a diagnosis, a
procedure or a kind of visit. What is shipped reads at a sixth-grade level; a test measures it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Formatter

from node.errors import ConfigError, InvalidInput
from orchestration.messengers.message import Channel

#: What a text may ask for.
SLOTS = frozenset({"greeting", "practice", "phone", "booking", "stop"})
_LANGUAGES = ("en", "es")
_CHANNELS = (Channel.EMAIL, Channel.SMS)
_SHIPPED = Path(__file__).with_name("templates")
_GREETING = {
    ("en", True): "Hello {name},", ("en", False): "Hello,",
    ("es", True): "Hola, {name}:", ("es", False): "Hola:",
}  # fmt: skip
_BOOKING = {"en": "Book online: {url}", "es": "Reserve en línea: {url}"}
_STOP = {
    ("en", Channel.SMS): "Reply STOP to end messages.",
    ("es", Channel.SMS): "Responda STOP para no recibir más mensajes.",
    ("en", Channel.EMAIL): "To get no more of these messages: {url}",
    ("es", Channel.EMAIL): "Para no recibir más mensajes: {url}",
}
#: Where there is no page to lead to.
_STOP_BY_PHONE = {
    "en": "To get no more of these messages, call {phone}.",
    "es": "Para no recibir más mensajes, llame al {phone}.",
}


@dataclass(frozen=True, slots=True)
class Template:
    """One text in one language for one channel; `id` names it with its version."""

    name: str
    language: str
    channel: Channel
    version: str
    subject: str
    text: str

    @property
    def id(self) -> str:
        """Name it as stored: "invite/en/sms@2"."""
        return f"{self.name}/{self.language}/{self.channel.value}@{self.version}"

    @property
    def digest(self) -> str:
        """Digest of the very words, so that an approval holds for them only."""
        said = "\n".join((self.id, self.subject, self.text))
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Filling:
    """What the slots are filled with."""

    practice: str
    phone: str
    booking_url: str = ""
    stop_url: str = ""
    first_name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message as it would go out."""

    template: str
    subject: str = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Templates:
    """All texts of an installation, by name, language and channel."""

    texts: Mapping[tuple[str, str, Channel], Template]

    def find(self, name: str, language: str, channel: Channel) -> Template:
        """Find a text, in English where the language has none. Raises ConfigError."""
        for each in (language, "en"):
            found = self.texts.get((name, each, channel))
            if found is not None:
                return found
        raise ConfigError(f"there is no template {name} for {channel.value}")

    def by_id(self, template_id: str) -> Template:
        """Find a text by its stored name. Raises ConfigError when this release has another."""
        for each in self.texts.values():
            if each.id == template_id:
                return each
        raise ConfigError("this template has changed since; plan the message anew")


def load(folder: str = "") -> Templates:
    """Load the shipped texts, and those of an own folder over them.

    Raises
    ------
    ConfigError
        A file is no template, or asks for a slot that there is none of.
    """
    texts = dict(_load(_SHIPPED))
    if folder:
        if not Path(folder).is_dir():
            raise ConfigError("recall.template_dir is no folder")
        texts |= _read_folder(Path(folder))
    return Templates(texts)


def render(template: Template, filling: Filling) -> Rendered:
    """Fill a text; lines whose slot is empty are left out."""
    words = {
        "greeting": _greeting(template.language, filling.first_name),
        "practice": filling.practice,
        "phone": filling.phone,
        "booking": _with_url(_BOOKING[template.language], filling.booking_url),
        "stop": _stop(template, filling),
    }
    lines = [
        line.format(**words).rstrip()
        for line in template.text.strip().splitlines()
        if not _is_empty(line, words)
    ]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return Rendered(template.id, template.subject.format(**words), text)


def reading_grade(text: str, language: str) -> float:
    """Estimate the school grade that a text asks for.

    English: Flesch-Kincaid. Spanish: Fernandez Huerta's ease, mapped to grades by Flesch's scale.
    Syllables are counted as groups of vowels.
    """
    words = re.findall(r"[a-záéíóúüñ']+", text.casefold())
    sentences = max(1, len(re.findall(r"[.!?:]+(?=\s|$)|\n", text.strip())))
    if not words:
        return 0.0
    syllables = sum(_syllables(word, language) for word in words)
    if language == "en":
        return 0.39 * len(words) / sentences + 11.8 * syllables / len(words) - 15.59
    ease = 206.84 - 60.0 * syllables / len(words) - 1.02 * len(words) / sentences
    return max(0.0, (100.0 - ease) / 10.0 + 5.0) if ease < 100 else 5.0


def _syllables(word: str, language: str) -> int:
    groups = len(re.findall(r"[aeiouyáéíóúü]+", word))
    if language == "en" and word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1:
        groups -= 1
    return max(1, groups)


def _greeting(language: str, name: str) -> str:
    plain = " ".join(part for part in name.split() if part.isprintable())[:40]
    return _GREETING[language, bool(plain)].format(name=plain)


def _stop(template: Template, filling: Filling) -> str:
    if template.channel is Channel.SMS:
        return _STOP[template.language, Channel.SMS]
    if filling.stop_url:
        return _with_url(_STOP[template.language, Channel.EMAIL], filling.stop_url)
    by_phone = _STOP_BY_PHONE[template.language]
    return by_phone.format(phone=filling.phone) if filling.phone else ""


def _with_url(words: str, url: str) -> str:
    return words.format(url=url) if url else ""


def _is_empty(line: str, words: Mapping[str, str]) -> bool:
    """Tell whether a line has slots and one of them has nothing to say."""
    return any(not words[name] for _, name, _, _ in Formatter().parse(line) if name)


@cache
def _load(folder: Path) -> Mapping[tuple[str, str, Channel], Template]:
    return _read_folder(folder)


def _read_folder(folder: Path) -> dict[tuple[str, str, Channel], Template]:
    found = {}
    for path in sorted(folder.glob("*.toml")):
        for template in _read(path):
            found[template.name, template.language, template.channel] = template
    return found


def _read(path: Path) -> list[Template]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise ConfigError(f"the template {path.name} is not TOML") from None
    made = []
    for language, section in raw.items():
        if language not in _LANGUAGES or not isinstance(section, dict):
            raise ConfigError(f"the template {path.name} has no language {language!r}")
        version = str(section.get("version", ""))
        if not re.fullmatch(r"[0-9.]{1,8}", version):
            raise ConfigError(f"the template {path.name} needs a version for {language}")
        for channel in _CHANNELS:
            words = section.get(channel.value)
            if isinstance(words, dict):
                made.append(_made(path, language, channel, version, words))
    return made


def _made(
    path: Path, language: str, channel: Channel, version: str, words: Mapping[str, object]
) -> Template:
    template = Template(
        path.stem, language, channel, version,
        str(words.get("subject", "")).strip(), str(words.get("text", "")).strip(),
    )  # fmt: skip
    try:
        check(template)
    except InvalidInput as error:
        raise ConfigError(f"the template {path.name}: {error}") from None
    return template


def check(template: Template) -> None:
    """Refuse a text with slots that we have none of, or without its way to end messages."""
    try:
        slots = {
            name
            for part in (template.subject, template.text)
            for _, name, _, _ in Formatter().parse(part)
            if name is not None
        }
    except ValueError:
        raise InvalidInput("a brace is not closed") from None
    if not slots <= SLOTS:
        raise InvalidInput(f"slots are {', '.join(sorted(SLOTS))}")
    if not template.text or "stop" not in slots:
        raise InvalidInput("every text says how to end messages: {stop}")
    if "practice" not in slots:
        raise InvalidInput("every text says who writes: {practice}")
    if template.channel is Channel.EMAIL and not template.subject:
        raise InvalidInput("an e-mail has a subject")
