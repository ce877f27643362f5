"""The routes of worklist, studies, operations and signatures; each reads, calls and answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from node.domain.rights import Right
from node.web.accounts import Session
from node.web.auth import WebDep, audit_look, opaque_id, require
from node.web.images import Pictures, pictures_of
from node.web.operations import apply_operations, worst_status
from node.web.shapes import (
    AmendAnswer,
    AmendRequest,
    OpsAnswer,
    OpsRequest,
    SignAnswer,
    SignedVersions,
    SignRequest,
    Study,
    Worklist,
)
from node.web.signing import amend, sign
from node.web.studies import compose_study, compose_versions
from node.web.worklist import Filter, compose_worklist

router = APIRouter(prefix="/api")


@router.get("/worklist")
def get_worklist(
    request: Request,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.WORKLIST_SEE))],
    filter: Filter = "to_review",
) -> Worklist:
    """Give the reader's queue."""
    worklist = compose_worklist(web, session, filter)
    audit_look(request, web, session, "worklist.shown", f"worklist:{filter}")
    return worklist


@router.get("/studies/{study_id}")
def get_study(
    study_id: str,
    request: Request,
    web: WebDep,
    pictures: Annotated[Pictures, Depends(pictures_of)],
    session: Annotated[Session, Depends(require(Right.IMAGES_SEE))],
) -> Study:
    """Give one study; opening it is audited, a refresh of the open page is not again."""
    study = compose_study(web, pictures, session, opaque_id(study_id))
    audit_look(request, web, session, "study.opened", f"study:{study_id}")
    return study


@router.get("/studies/{study_id}/versions")
def get_versions(
    study_id: str,
    request: Request,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.IMAGES_SEE))],
) -> SignedVersions:
    """Give what was signed, version by version, to lay beside each other."""
    versions = compose_versions(web, session, opaque_id(study_id))
    audit_look(request, web, session, "study.versions_shown", f"study:{study_id}")
    return versions


@router.post("/studies/{study_id}/ops")
def post_operations(
    study_id: str,
    body: OpsRequest,
    response: Response,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.IMAGES_SEE))],
) -> OpsAnswer:
    """Apply operations in order, each once."""
    answer = apply_operations(web, session, opaque_id(study_id), body.operations)
    response.status_code = worst_status(answer.results)
    return answer


@router.post("/studies/{study_id}/sign")
def post_signature(
    study_id: str,
    body: SignRequest,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.FINDINGS_SIGN))],
) -> SignAnswer:
    """Sign what the screen shows."""
    return sign(web, session, opaque_id(study_id), body)


@router.post("/studies/{study_id}/amend")
def post_amendment(
    study_id: str,
    body: AmendRequest,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.FINDINGS_SIGN))],
) -> AmendAnswer:
    """Open a signed study for a further version."""
    return amend(web, session, opaque_id(study_id), body.reason)
