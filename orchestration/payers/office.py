"""The practice as payers know it, and what it needs to reach them: from ``[payers]``."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor
from node.errors import ConfigError, InvalidInput
from orchestration.gateway import Gateway
from orchestration.payers.claim import Address, Dentist, Practice
from orchestration.payers.clearinghouse import Clearinghouse, ClearinghouseSettings
from orchestration.payers.denials import RouteTable, load_routes
from orchestration.payers.rules import RuleBook, load_rules
from orchestration.payers.segments import Envelope


class PayerOffice:
    """One practice's rule packs, routes, clearinghouse and language model, opened when needed."""

    def __init__(self, config: Config, db: sa.Engine) -> None:
        self.config = config
        self.section = config.payers
        self._db = db

    @property
    def is_on(self) -> bool:
        """Whether a clearinghouse is configured at all."""
        return bool(self.section.url)

    @cached_property
    def book(self) -> RuleBook:
        """The rule packs."""
        return load_rules(Path(self.section.rules_dir) if self.section.rules_dir else None)

    @cached_property
    def routes(self) -> RouteTable:
        """What to do about denials."""
        return load_routes(Path(self.section.denials) if self.section.denials else None)

    @cached_property
    def house(self) -> Clearinghouse:
        """The clearinghouse; raises ConfigError when it is not configured rightly."""
        section = self.section
        if not section.url:
            raise ConfigError("no clearinghouse is configured (payers.url)")
        key = section.api_key.get_secret_value()
        reach = self.config.outgoing.reach("payers")
        return Clearinghouse(
            ClearinghouseSettings(section.url, key, section.allowed_hosts, reach=reach)
        )

    @cached_property
    def gateway(self) -> Gateway:
        """The language model, or a closed door."""
        actor = Actor("gateway", self.config.node.location_id)
        reach = self.config.outgoing.reach("gateway")
        return Gateway(self.config.gateway, self._db, actor, reach)

    def practice(self) -> Practice:
        """Give the billing practice; raises ConfigError naming what is missing."""
        section = self.section
        names = ("npi", "tax_id", "phone", "street", "city", "state", "postal_code")
        missing = [name for name in names if not getattr(section, name)]
        if missing:
            raise ConfigError(f"claims need payers.{missing[0]}")
        try:
            address = Address(section.street, section.city, section.state, section.postal_code)
            return Practice(
                self.config.node.practice_name, section.npi, section.tax_id, section.taxonomy,
                address, section.phone,
            )  # fmt: skip
        except InvalidInput as error:
            raise ConfigError(f"payers: {error}") from None

    def dentist(self, provider_key: str) -> Dentist:
        """Give the treating dentist; raises ConfigError when payers do not know them."""
        for each in self.section.dentists:
            if each.provider == provider_key:
                try:
                    return Dentist(each.family_name, each.given_name, each.npi, each.taxonomy)
                except InvalidInput as error:
                    raise ConfigError(f"payers.dentists: {error}") from None
        raise ConfigError(f"payers.dentists has no entry for the PMS's provider {provider_key!r}")

    def envelope(self, key: str, at: datetime) -> Envelope:
        """Address one file; the same key gives the same control number, another one another."""
        section = self.section
        digest = int(hashlib.sha256(key.encode()).hexdigest()[:15], 16)
        local = at.astimezone(self.config.zone)
        try:
            return Envelope(
                section.sender, section.receiver, digest % 999_999_999 + 1, local, section.is_test
            )
        except InvalidInput as error:
            raise ConfigError(f"payers.sender, payers.receiver: {error}") from None
