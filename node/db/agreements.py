"""Agreements with outside parties (business associates): without one in force nothing is sent.

:func:`demand` is the one judge; every door through which the program calls somebody asks it: the
workflows' calls (`orchestration.steps`), the payer's inbox, the language model, other archives.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlsplit

import sqlalchemy as sa

from node.config import Config, LabSection
from node.db.session import Tx, new_id, read
from node.db.tables import partner_agreement, workflow_case
from node.domain.destinations import is_near, is_this_machine
from node.errors import InvalidInput, NotFound, Retryable

_LOG = logging.getLogger("bitewing")
#: So long before its end an agreement is warned about.
WARN = timedelta(days=30)
#: A case that waits for an agreement is woken when one is recorded; until then it looks so often.
_LOOK_AGAIN_S = 900.0
#: What workflows call the ways of one party.
_ALIASES = {"staff_mail": "email", "staff_chat": "chat"}


class NoAgreement(Retryable):
    """The party's agreement is missing or has ended; what was to go to it waits."""


@dataclass(frozen=True, slots=True)
class Party:
    """One outside party that the configuration names; `key` is how agreements call it."""

    key: str
    name: str
    host: str
    is_sandbox: bool = False

    @property
    def needs_agreement(self) -> bool:
        """Whether it does: all do but a sandbox on this very machine."""
        return not (self.is_sandbox and is_this_machine(self.host))


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed with a party: who signed, with whom, when, until when, on which paper."""

    party: str
    counterparty: str
    signed_by: str
    signed_on: date
    valid_until: date
    document_sha256: str

    def __post_init__(self) -> None:
        """Refuse what names nobody or ends before it begins (InvalidInput)."""
        for name, text in (("counterparty", self.counterparty), ("signer", self.signed_by)):
            if not text.strip() or len(text) > 128:
                raise InvalidInput(f"an agreement names its {name} in 1 to 128 characters")
        if self.valid_until <= self.signed_on:
            raise InvalidInput("an agreement ends after the day it was signed")
        if len(self.document_sha256) != 64 or set(self.document_sha256) - set("0123456789abcdef"):
            raise InvalidInput("the document's digest is a SHA-256 of 64 hex digits")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a party stands today; `words` is empty while it may be called without a remark."""

    party: Party
    agreement: Agreement | None
    agreement_id: str
    may_be_called: bool
    words: str


def parties(config: Config) -> Mapping[str, Party]:
    """Name every outside party of the configuration, by its key.

    A DICOM peer or object store in the office's own network, or a peer declared to be the office
    (``external = false``), is no outside party; everybody else is one wherever they stand, as an
    address nearby may be the end of a tunnel.
    """
    mail, payers = config.messengers, config.payers
    near_store = is_near(config.objects.host)
    found = [
        Party("payer", "clearinghouse", _host(payers.url), payers.is_sandbox),
        Party("email", "e-mail provider", mail.smtp_host, mail.is_sandbox),
        Party("sms", "text message provider", _host(mail.sms_url), mail.is_sandbox),
        Party("chat", "chat", _host(mail.chat_url.get_secret_value()), mail.is_sandbox),
        model_party(config.gateway.base_url, config.gateway.is_sandbox),
        Party("objects", "object store", config.objects.host if not near_store else ""),
        *(_lab(section, mail.smtp_host) for section in config.labs.partners),
        *(
            Party(
                f"webhook:{each.name}", f"subscriber {each.name}", _host(each.url), each.is_sandbox
            )
            for each in config.workflows.webhooks
        ),
        *(
            Party(f"archive:{peer.name}", f"DICOM peer {peer.name}", peer.host)
            for peer in config.dicom.peers
            if peer.is_outside
        ),
    ]
    return {party.key: party for party in found if party.host}


def model_party(url: str, is_sandbox: bool) -> Party:
    """Name the provider of the language model."""
    return Party("model", "language model", _host(url), is_sandbox)


def demand(conn: sa.Connection, config: Config, partner: str, now: datetime) -> None:
    """Refuse to call a partner whose agreement is missing or has ended.

    Raises NoAgreement: what was to be sent waits until one is recorded.
    """
    party = parties(config).get(_ALIASES.get(partner, partner))
    if party is not None:
        demand_party(conn, config.node.location_id, party, now.astimezone(config.zone).date())


def demand_peer(db: sa.Engine, config: Config, peer: str, now: datetime) -> None:
    """Refuse to open an association with a DICOM peer outside, as :func:`demand` does."""
    with read(db) as conn:
        demand(conn, config, f"archive:{peer}", now)


def demand_party(conn: sa.Connection, location_id: str, party: Party, today: date) -> None:
    """Refuse one party as :func:`demand` does."""
    standing = _standing(conn, location_id, party, today)
    if not standing.may_be_called:
        raise NoAgreement(standing.words, _LOOK_AGAIN_S)


def standings(conn: sa.Connection, config: Config, now: datetime) -> list[Standing]:
    """Say how every configured party stands."""
    today = now.astimezone(config.zone).date()
    known = parties(config).values()
    return [_standing(conn, config.node.location_id, party, today) for party in known]


def warn_of_agreements(config: Config, db: sa.Engine, now: datetime) -> None:
    """Log every party that may not be called, or soon may not."""
    with read(db) as conn:
        for each in standings(conn, config, now):
            if each.words and each.party.needs_agreement:
                _LOG.warning("%s", each.words)


def record(tx: Tx, config: Config, agreement: Agreement) -> str:
    """Keep an agreement; what waited for it goes on. Returns its id.

    Raises NotFound when the configuration names no such party.
    """
    if agreement.party not in parties(config):
        known = ", ".join(sorted(parties(config))) or "none"
        raise NotFound(f"the configuration names no party {agreement.party} (it names: {known})")
    agreement_id = new_id()
    tx.conn.execute(
        partner_agreement.insert().values(
            id=agreement_id,
            location_id=tx.location_id,
            party=agreement.party,
            counterparty=agreement.counterparty.strip(),
            signed_by=agreement.signed_by.strip(),
            signed_on=agreement.signed_on,
            valid_until=agreement.valid_until,
            document_sha256=agreement.document_sha256,
            recorded_by=tx.actor.name,
            recorded_at=tx.now,
        )
    )
    waiting = tx.conn.execute(
        workflow_case.update()
        .where(
            workflow_case.c.location_id == tx.location_id,
            workflow_case.c.state == "retrying",
            workflow_case.c.error.startswith(_waits_for(agreement.party), autoescape=True),
            workflow_case.c.wake_at > tx.now,
        )
        .values(wake_at=tx.now)
    ).rowcount
    tx.record(
        f"agreement:{agreement_id}",
        party=agreement.party,
        valid_until=agreement.valid_until.isoformat(),
        document=agreement.document_sha256,
        woken=waiting,
    )
    return agreement_id


def revoke(tx: Tx, agreement_id: str, reason: str) -> None:
    """End an agreement today. Raises NotFound when there is none in force under the id."""
    changed = tx.conn.execute(
        partner_agreement.update()
        .where(
            partner_agreement.c.id == agreement_id,
            partner_agreement.c.location_id == tx.location_id,
            partner_agreement.c.revoked_at.is_(None),
        )
        .values(revoked_at=tx.now, revoked_by=tx.actor.name, reason=reason[:255])
    ).rowcount
    if not changed:
        raise NotFound("There is no such agreement in force.")
    tx.record(f"agreement:{agreement_id}", reason=reason[:255])


def _standing(conn: sa.Connection, location_id: str, party: Party, today: date) -> Standing:
    row = conn.execute(
        sa.select(partner_agreement)
        .where(
            partner_agreement.c.location_id == location_id,
            partner_agreement.c.party == party.key,
            partner_agreement.c.revoked_at.is_(None),
        )
        .order_by(partner_agreement.c.valid_until.desc(), partner_agreement.c.recorded_at.desc())
        .limit(1)
    ).first()
    if not party.needs_agreement:
        return Standing(party, None, "", True, "a sandbox on this machine: none needed")
    if row is None:
        return Standing(party, None, "", False, f"{_waits_for(party.key)}: none is recorded")
    found = Agreement(
        row.party, row.counterparty, row.signed_by, row.signed_on, row.valid_until,
        row.document_sha256,
    )  # fmt: skip
    if today > found.valid_until:
        words = f"{_waits_for(party.key)}: it ended on {found.valid_until}"
        return Standing(party, found, row.id, False, words)
    if found.valid_until - today <= WARN:
        words = f"the agreement with {party.key} ends on {found.valid_until}"
        return Standing(party, found, row.id, True, words)
    return Standing(party, found, row.id, True, "")


def _waits_for(key: str) -> str:
    return f"waits for an agreement with {key}"


def _lab(section: LabSection, mail_host: str) -> Party:
    host = {"api": _host(section.url), "sftp": section.host, "email": mail_host}[section.transport]
    return Party(f"lab:{section.key}", f"laboratory {section.name}", host, section.is_sandbox)


def _host(url: str) -> str:
    return urlsplit(url).hostname or "" if url else ""
