"""One file a workflow; its docstring says what starts it, what it writes and who approves."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from node.config import Config
from node.db import agreements
from node.db.session import Actor, read
from node.engine import DurableEngine
from orchestration.labs.source import LabSource
from orchestration.messengers.callbacks import SmsSource
from orchestration.messengers.office import link_key
from orchestration.payers.mail import Mailbox
from orchestration.payers.office import PayerOffice
from orchestration.webhooks import Source
from orchestration.workflow import Workflow
from orchestration.workflows import (
    eligibility,
    lab_case,
    notify_staff,
    notify_subscribers,
    preauthorisation,
    recall,
    recall_interval,
)


def open_workflows(config: Config, db: sa.Engine) -> dict[str, Workflow]:
    """Open every workflow that this installation is configured for, by its stored name."""
    workflows = [
        notify_subscribers.make(config),
        notify_staff.make(config, link_key(config)),
        recall.make(config, link_key(config)),
        recall_interval.make(config),
    ]
    if config.labs.partners:
        workflows.append(lab_case.make(config))
    if config.payers.url:
        office = PayerOffice(config, db)
        workflows += [preauthorisation.make(office), eligibility.make(office)]
    return {workflow.name: workflow for workflow in workflows}


def open_mailbox(config: Config, db: sa.Engine, engine: DurableEngine) -> Mailbox | None:
    """Open the clearinghouse's inbox; None where no clearinghouse is configured."""
    if not config.payers.url:
        return None
    house = PayerOffice(config, db).house

    def may_call() -> None:
        with read(db) as conn:
            agreements.demand(conn, config, "payer", datetime.now(UTC))

    location_id = config.node.location_id
    return Mailbox(db, engine, house, preauthorisation.NAME, location_id, may_call)


def open_sources(config: Config, db: sa.Engine) -> dict[str, Source]:
    """Open the partners that may call us, by the name in their address ``/hooks/NAME``."""
    sources: dict[str, Source] = {}
    secret = config.messengers.sms_secret.get_secret_value()
    if secret:
        sources["sms"] = SmsSource(db, Actor("sms", config.node.location_id), secret)
    for lab in config.labs.partners:
        if signs := lab.webhook_secret.get_secret_value():
            sources[f"lab-{lab.key}"] = LabSource(lab.key, signs)
    return sources
