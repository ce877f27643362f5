"""The laboratories of this practice as configured: how each is reached, its rules, who may sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

from node.config import Config, LabSection, PrescriberSection
from node.db.tables import user_account
from node.errors import ConfigError, Rejected
from orchestration.labs.api import ApiLab, ApiSettings
from orchestration.labs.email import EmailLab, EmailSettings
from orchestration.labs.fetching import package_link
from orchestration.labs.partner import Dispatch, LabPartner
from orchestration.labs.prescription import Restoration
from orchestration.labs.procedures import CodeMeaning, load_codes
from orchestration.labs.rulebook import LabPack, Rulebook, load_pack, load_rulebook
from orchestration.labs.sftp import SftpLab, SftpSettings
from orchestration.messengers.message import Channel
from orchestration.messengers.office import link_key, open_messenger
from orchestration.messengers.smtp import SmtpMessenger

#: Work comes back after two or three weeks; a schedule read less far ahead misses its visit.
_LEAST_DAYS_AHEAD = 21


@dataclass(slots=True)
class LabEntry:
    """One laboratory: its section of the configuration, its rules, and the way to it."""

    section: LabSection
    pack: LabPack
    partner: LabPartner = field(repr=False)

    @property
    def outside_name(self) -> str:
        """Name it as workflows declare their partners, and as agreements do."""
        return outside_name(self.section)

    def price(self, restoration: Restoration) -> Decimal | None:
        """The agreed price of a restoration."""
        found = self.section.prices.get(restoration.value)
        return None if found is None else Decimal(str(found)).quantize(Decimal("0.01"))


def outside_name(section: LabSection) -> str:
    """Name a laboratory as an outside party."""
    return f"lab:{section.key}"


class Directory:
    """Everything configured under ``[labs]``; raises ConfigError when it cannot be right."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._section = config.labs
        library = self._section.implant_library
        self.book: Rulebook = load_rulebook(Path(library) if library else None)
        self.codes: dict[str, CodeMeaning] = load_codes()
        for code in self._section.prep_codes:
            if code not in self.codes:
                raise ConfigError(f"labs.prep_codes: {code} is no work for a laboratory")
        keys = [section.key for section in self._section.partners]
        if len(set(keys)) != len(keys):
            raise ConfigError("labs.partners: two laboratories have one key")
        #: The laboratories by their key, in the order of the configuration.
        self.labs = {each.key: self._open(each) for each in self._section.partners}

    def lab(self, key: str) -> LabEntry:
        """Find a laboratory; raises Rejected when it is configured no more."""
        if key not in self.labs:
            raise Rejected("this laboratory is not configured (any more)")
        return self.labs[key]

    def sandbox(self) -> LabEntry | None:
        """The first sandbox, which is all that silent mode may reach."""
        return next((each for each in self.labs.values() if each.section.is_sandbox), None)

    def prescriber_of_provider(self, provider_key: str) -> PrescriberSection | None:
        """The licensed dentist whom the PMS knows under a key; an only one needs no key."""
        known = self._section.prescribers
        if len(known) == 1 and not known[0].provider:
            return known[0]
        return next((p for p in known if p.provider and p.provider == provider_key), None)

    def prescriber_of_user(
        self, conn: sa.Connection, location_id: str, user_id: str
    ) -> PrescriberSection:
        """The licence of who signs; raises Rejected when none is on file."""
        name = conn.execute(
            sa.select(user_account.c.username).where(
                user_account.c.id == user_id, user_account.c.location_id == location_id
            )
        ).scalar()
        found = next((p for p in self._section.prescribers if p.user == name), None)
        if name is None or found is None:
            raise Rejected(
                "no licence number is on file for who signed; add the dentist to labs.prescribers"
            )
        return found

    @property
    def starts_with(self) -> frozenset[str]:
        """The codes whose completion begins a case."""
        return frozenset(self._section.prep_codes or self.codes)

    def _open(self, section: LabSection) -> LabEntry:
        pack = load_pack(section.key, Path(section.rules) if section.rules else None)
        return LabEntry(section, pack, self._way(section))

    def _way(self, section: LabSection) -> LabPartner:
        reach = self._config.outgoing.reach("labs")
        match section.transport:
            case "api":
                key = section.api_key.get_secret_value()
                return ApiLab(ApiSettings(section.url, key, reach=reach))
            case "sftp":
                return SftpLab(
                    SftpSettings(
                        host=section.host,
                        port=section.port,
                        user=section.user,
                        host_key=section.host_key,
                        password=section.password.get_secret_value(),
                        key_file=Path(section.key_file) if section.key_file else None,
                        folder=section.folder,
                        status_folder=section.status_folder,
                        invoice_folder=section.invoice_folder,
                        reach=reach,
                    )
                )
            case "email":
                mailer = open_messenger(self._config, Channel.EMAIL)
                assert isinstance(mailer, SmtpMessenger)
                settings = EmailSettings(section.email, section.email_form)
                return EmailLab(settings, mailer, self._linker())

    def _linker(self) -> Callable[[Dispatch], str] | None:
        """Give what makes links to packages; None where nobody outside reaches this node."""
        if not self._config.messengers.public_url:
            return None
        config = self._config
        return lambda dispatch: package_link(config, link_key(config), dispatch)


def describe(config: Config) -> tuple[bool, str]:
    """Say in words who the laboratories are, and whether something wants a look."""
    section = config.labs
    if not section.partners:
        return True, "none configured"
    names = ", ".join(
        f"{lab.section.name} ({lab.section.transport}, rules of {lab.pack.dated})"
        for lab in Directory(config).labs.values()
    )
    if not section.prescribers:
        return False, f"{names}; nobody may sign: add labs.prescribers"
    if config.pms.days_after < _LEAST_DAYS_AHEAD:
        words = f"pms.days_after is {config.pms.days_after}, seat visits further ahead are not seen"
        return False, f"{names}; {words}"
    return True, f"{names}; {len(section.prescribers)} may sign"
