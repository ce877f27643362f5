"""Agreements with outside parties, for the office manager and the administrator."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from node.db.agreements import Agreement, Standing, record, revoke, standings
from node.db.session import begin, read
from node.domain.rights import Right
from node.web.accounts import Session
from node.web.auth import Web, WebDep, opaque_id, require

router = APIRouter(prefix="/api/partners")
Manager = Annotated[Session, Depends(require(Right.PARTNERS_MANAGE))]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PartnerLine(_Shape):
    """How one party stands; `words` is empty while there is nothing to do."""

    party: str
    name: str
    may_be_called: bool
    needs_agreement: bool
    words: str
    agreement_id: str
    counterparty: str
    signed_by: str
    signed_on: date | None
    valid_until: date | None
    document_sha256: str


class Partners(_Shape):
    """Every party that the configuration names."""

    partners: tuple[PartnerLine, ...]


class NewAgreement(_Shape):
    """What was agreed; the page computes the paper's digest, which never leaves the desk."""

    party: str = Field(min_length=1, max_length=64)
    counterparty: str = Field(min_length=1, max_length=128)
    signed_by: str = Field(min_length=1, max_length=128)
    signed_on: date
    valid_until: date
    document_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Ending(_Shape):
    """Why an agreement ends."""

    reason: str = Field(min_length=1, max_length=255)


@router.get("")
def get_partners(web: WebDep, session: Manager) -> Partners:
    """Say how every party stands."""
    return _partners(web)


@router.post("", status_code=201)
def post_agreement(body: NewAgreement, web: WebDep, session: Manager) -> Partners:
    """Record an agreement; what waited for it goes on."""
    made = Agreement(
        body.party,
        body.counterparty,
        body.signed_by,
        body.signed_on,
        body.valid_until,
        body.document_sha256,
    )
    with begin(web.db, session.actor, "agreement.recorded") as tx:
        record(tx, web.config, made)
    return _partners(web)


@router.post("/{agreement_id}/revoke")
def post_revoke(agreement_id: str, body: Ending, web: WebDep, session: Manager) -> Partners:
    """End an agreement; nothing more is sent to the party."""
    with begin(web.db, session.actor, "agreement.revoked") as tx:
        revoke(tx, opaque_id(agreement_id), body.reason)
    return _partners(web)


def _partners(web: Web) -> Partners:
    with read(web.db) as conn:
        found = standings(conn, web.config, datetime.now(UTC))
    return Partners(partners=tuple(_line(each) for each in found))


def _line(standing: Standing) -> PartnerLine:
    paper = standing.agreement
    return PartnerLine(
        party=standing.party.key,
        name=standing.party.name,
        may_be_called=standing.may_be_called,
        needs_agreement=standing.party.needs_agreement,
        words=standing.words,
        agreement_id=standing.agreement_id,
        counterparty=paper.counterparty if paper else "",
        signed_by=paper.signed_by if paper else "",
        signed_on=paper.signed_on if paper else None,
        valid_until=paper.valid_until if paper else None,
        document_sha256=paper.document_sha256 if paper else "",
    )
