"""The console's routes about recall: texts to read, standing approvals, what reminders bring."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from node.db.session import begin, read
from node.domain.rights import Right
from node.errors import InvalidInput
from orchestration.console import Person
from orchestration.recall import policy, templates
from orchestration.recall.lift import Lift
from orchestration.recall.segments import Segment
from orchestration.recall.sequence import SEQUENCES
from orchestration.recall.templates import Filling, Template, Templates
from orchestration.recall.trials import lift_of
from orchestration.runner import Runner


class Standing(BaseModel):
    """A standing approval as a person gives it: of the words that they were shown."""

    model_config = ConfigDict(extra="forbid")

    segment: Segment
    template: str = Field(max_length=64)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    reason: str = Field(min_length=1, max_length=255)
    days: int = Field(180, ge=1, le=366)


def make_router(
    runner: Runner, require: Callable[[Right], Callable[[Request], Person]]
) -> APIRouter:
    """Make the routes; `require` makes the dependency that lets only people with a right pass."""
    router = APIRouter(prefix="/api/recall")
    texts = templates.load(runner.config.recall.template_dir)
    approve = Depends(require(Right.MESSAGES_APPROVE))
    see = Depends(require(Right.WORKFLOWS_SEE))
    location = runner.actor.location_id

    @router.get("")
    def get_recall(person: Person = see) -> dict[str, JsonValue]:
        section = runner.config.recall
        with read(runner.db) as conn:
            standing = policy.policies(conn, location, runner.clock())
            measured = lift_of(conn, location, section.lift_seed, runner.clock())
        return {
            "templates": _texts(runner, texts),
            "standing": [
                {
                    "id": each.id,
                    "segment": each.segment.value,
                    "template": each.template,
                    "ends_at": each.ends_at.isoformat(),
                }
                for each in standing
            ],
            "lift": None if measured is None else _lift(measured),
        }

    @router.post("/standing", status_code=201)
    def approve_standing(body: Standing, person: Person = approve) -> dict[str, JsonValue]:
        template = texts.by_id(body.template)
        if template.digest != body.digest:
            raise InvalidInput("The text has changed since you read it; please read it again.")
        if template.name not in {step.template for step in SEQUENCES[body.segment]}:
            raise InvalidInput("This text is not sent to this group.")
        with begin(runner.db, person.actor, "recall.approved_standing") as tx:
            policy_id = policy.approve(
                tx,
                body.segment,
                template,
                by=person.user_id,
                reason=body.reason,
                ends_at=tx.now + timedelta(days=body.days),
            )
        return {"id": policy_id}

    @router.delete("/standing/{policy_id}", status_code=204)
    def revoke_standing(policy_id: str, person: Person = approve) -> None:
        with begin(runner.db, person.actor, "recall.revoked_standing") as tx:
            policy.revoke(tx, policy_id)

    return router


def _texts(runner: Runner, texts: Templates) -> JsonValue:
    """Give every text that is sent, as it would read, by the groups it goes to."""
    used: dict[str, list[JsonValue]] = {}
    for segment, steps in SEQUENCES.items():
        for name in {step.template for step in steps}:
            used.setdefault(name, []).append(segment.value)
    return [
        {
            "id": each.id,
            "digest": each.digest,
            "channel": each.channel.value,
            "language": each.language,
            "segments": used[each.name],
            **_shown(runner, each),
        }
        for each in sorted(texts.texts.values(), key=lambda each: each.id)
        if each.name in used
    ]


def _shown(runner: Runner, template: Template) -> dict[str, JsonValue]:
    section = runner.config.recall
    filling = Filling(
        runner.config.node.practice_name, section.phone, section.booking_url, "(link)"
    )
    rendered = templates.render(template, filling)
    return {"subject": rendered.subject, "text": rendered.text}


def _lift(measured: Lift) -> JsonValue:
    return {
        "prompt": measured.prompt,
        "prompt_booked": measured.prompt_booked,
        "delayed": measured.delayed,
        "delayed_booked": measured.delayed_booked,
        "difference": round(measured.difference, 4),
        "low": round(measured.low, 4),
        "high": round(measured.high, 4),
    }
