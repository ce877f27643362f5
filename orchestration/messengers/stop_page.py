"""The page behind the link that ends messages: it says what it does, and one button does it."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import APIRouter, Depends, Response

from node.config import Config
from node.db.session import Actor, begin
from node.domain.rights import Open
from node.errors import BitewingError, Forbidden, outcome
from orchestration import cases
from orchestration.messengers.callbacks import cases_written_to
from orchestration.messengers.contacts import keep_choice
from orchestration.messengers.links import Link, LinkKey, Purpose
from orchestration.messengers.message import address_digest
from orchestration.messengers.office import public
from orchestration.plain_page import button, page
from orchestration.runner import Runner
from pms_writeback.merging import current_patient

PATH = "/messages/stop"
_LIFE = timedelta(days=400)


def make_router(runner: Runner, key: LinkKey) -> APIRouter:
    """Make ``GET`` and ``POST /messages/stop/{token}``; POST is also RFC 8058's one click."""
    router = APIRouter(dependencies=[Depends(Open("a signed link"))])
    practice = runner.config.node.practice_name

    @router.get(f"{PATH}/{{token}}", include_in_schema=False)
    def show(token: str) -> Response:
        try:
            key.look(token, Purpose.STOP, runner.clock())
        except Forbidden as error:
            return page(practice, [f"{str(error).capitalize()}."], status=403)
        words = [
            "Do you want no more reminders from us, by e-mail or text message?",
            "¿No quiere recibir más recordatorios, ni por correo ni por mensaje de texto?",
        ]
        return page(practice, words, form=button("End messages / No recibir más"))

    @router.post(f"{PATH}/{{token}}", include_in_schema=False)
    def stop(token: str) -> Response:
        try:
            stop_messages(runner, key.look(token, Purpose.STOP, runner.clock()))
        except Forbidden as error:
            return page(practice, [f"{str(error).capitalize()}."], status=403)
        except BitewingError as error:
            words = ["This did not work just now. Please try again later."]
            return page(practice, words, status=outcome(error).http_status)
        words = [
            "Done. You get no more reminders from us.",
            "Listo. No recibirá más recordatorios.",
        ]
        return page(practice, words)

    return router


def stop_link(config: Config, key: LinkKey, patient_id: str, address: str, now: datetime) -> str:
    """Make the link that ends messages about a patient to an address; empty without public_url."""
    until = now.replace(hour=0, minute=0, second=0, microsecond=0) + _LIFE
    link = Link(Purpose.STOP, patient_id, address_digest(address), until)
    return public(config, f"{PATH}/{key.make(link)}")


def stop_messages(runner: Runner, link: Link) -> None:
    """Keep the wish to get no more messages, and end the cases that wrote there; safe to repeat."""
    actor = Actor("patient-link", runner.actor.location_id)
    with begin(runner.db, actor, "contact.stopped") as tx:
        # pressed again after a start it is a new wish; pressed twice within a minute it is one
        key = f"link:{link.subject}:{tx.now:%Y%m%d%H%M}"
        keep_choice(
            tx,
            key,
            scope="all",
            choice="stop",
            source="link",
            patient_id=current_patient(tx.conn, tx.location_id, link.subject),
            digest=link.holder,
        )
        for case_id in cases_written_to(tx.conn, tx.location_id, link.holder):
            cases.signal(tx, runner.engine, case_id, "opt_out", f"opt_out:{key}", {})
