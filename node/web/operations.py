"""Operations from the page, applied in order and exactly once each; nothing is ever overwritten.

Every operation is kept with its outcome, the refused ones too, so that both sides of a conflict
stay on record. The same ``op_id`` again gets the same outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import ValidationError

from node.db.session import Tx, begin, insert_once, new_id
from node.db.tables import finding, image_view, instance, operation, user_account
from node.domain.events import EventKind
from node.domain.rights import Right
from node.domain.study import NOT_SHOWN, StudyState
from node.errors import Conflict, Forbidden, InvalidInput, NotFound, Rejected
from node.rollout.showing import study_showing
from node.web.accounts import Session
from node.web.auth import Web
from node.web.edits import added, canvas_of, edit, restored, snapshot
from node.web.facts import Row, find_study, finding_rows, read_facts
from node.web.film_edits import calibrate_image, place_image
from node.web.marks import finding_shape, proposals
from node.web.mounts import check_template
from node.web.shapes import (
    CalibrateData,
    Finding,
    Operation,
    OpKind,
    OpResult,
    OpsAnswer,
    PlaceData,
    Proposal,
    TemplateData,
)
from node.web.signing import screen_hash, sign_state

_VIEWS = (OpKind.SEEN_IMAGE, OpKind.BARE_VIEW)
#: What they may do besides.
_OPEN = (OpKind.COMMENT, OpKind.CALIBRATE)
#: What somebody may do who only proposes.
_PROPOSALS = (OpKind.ACCEPT, OpKind.REJECT)


class _Stale(Conflict):
    """The finding changed since the reader saw it; `row` is what stands."""

    def __init__(self, row: Row, words: str) -> None:
        super().__init__(words)
        self.row = row


@dataclass(frozen=True, slots=True)
class _Done:
    """One operation that succeeded."""

    before: dict[str, object] | None = None
    row: Row | None = None
    finding_id: str | None = None
    is_proposal: bool = False


def apply_operations(
    web: Web, session: Session, study_id: str, operations: Sequence[Operation]
) -> OpsAnswer:
    """Apply operations in one transaction and answer for each of them.

    Raises NotFound when there is no such study here, Retryable when nothing could be written.
    """
    with begin(web.db, session.actor, "review.operations") as tx:
        study_row = find_study(tx.conn, web.location_id, study_id, lock=True)
        desk = _Desk(web, session, tx, study_row)
        results = [desk.answer(asked) for asked in operations]
        tx.record(f"study:{study_id}", operations=desk.log)
        if desk.changed:
            data = {"study_id": study_id}
            tx.append_event(EventKind.REVIEW_CHANGED, study_id, f"review:{desk.changed[-1]}", data)
        facts = read_facts(tx.conn, web, session, study_id)
    return OpsAnswer(
        results=tuple(results),
        sign=sign_state(facts, session),
        content_hash=screen_hash(facts),
        state=facts.shown_state,
    )


class _Desk:
    """One request at work: what was changed, and the lines of its audit row."""

    def __init__(self, web: Web, session: Session, tx: Tx, study: Row) -> None:
        self.web, self.session, self.tx, self.study = web, session, tx, study
        self.log: list[Mapping[str, object]] = []
        self.changed: list[str] = []

    def answer(self, asked: Operation) -> OpResult:
        """Answer one operation: as before when it is known, else by doing it."""
        op_id = asked.op_id.lower()
        known = self.tx.conn.execute(sa.select(operation).where(operation.c.op_id == op_id)).first()
        if known is not None:
            return self._repeat(known, asked)
        done, result = self._attempt(asked)
        self.tx.conn.execute(
            operation.insert().values(
                op_id=op_id,
                location_id=self.tx.location_id,
                study_id=self.study.id,
                user_id=self.session.user_id,
                finding_id=(done.finding_id if done else None) or asked.finding_id,
                kind=asked.kind.value,
                base_rev=asked.base_rev,
                data=asked.data,
                before=done.before if done else None,
                outcome=result.model_dump(mode="json"),
                at=self.tx.now,
            )
        )
        if done is not None and asked.kind not in _VIEWS:
            self.changed.append(op_id)
        self._note(asked, result)
        return result

    def _repeat(self, known: Row, asked: Operation) -> OpResult:
        is_mine = known.user_id == self.session.user_id and known.study_id == self.study.id
        if not is_mine or known.kind != asked.kind.value:
            title = "This operation's id is taken."
            return OpResult(op_id=asked.op_id, status="refused", title=title)
        return OpResult.model_validate(known.outcome)

    def _attempt(self, asked: Operation) -> tuple[_Done | None, OpResult]:
        try:
            done = self._do(asked)
        except _Stale as error:
            stands = self._shape(error.row)
            result = OpResult(
                op_id=asked.op_id, status="conflict", title=str(error), finding=stands, mine=asked
            )
            return None, result
        except InvalidInput as error:
            return None, OpResult(op_id=asked.op_id, status="invalid", title=str(error))
        except ValidationError as error:
            title = f"not acceptable: {error.errors(include_input=False)[0]['loc']}"
            return None, OpResult(op_id=asked.op_id, status="invalid", title=title)
        except Rejected as error:
            return None, OpResult(op_id=asked.op_id, status="refused", title=str(error), mine=asked)
        shown = self._shape(done.row) if done.row is not None else None
        if done.is_proposal and shown is not None:
            return done, OpResult(
                op_id=asked.op_id, status="proposed", finding=self._with_proposal(shown, asked)
            )
        return done, OpResult(op_id=asked.op_id, status="applied", finding=shown)

    def _with_proposal(self, shown: Finding, asked: Operation) -> Finding:
        proposal = Proposal(
            kind="accept" if asked.kind is OpKind.ACCEPT else "reject",
            reason=str(asked.data.get("reason") or ""),
            by=self.session.display_name,
            at=self.tx.now,
        )
        return shown.model_copy(update={"proposal": proposal})

    def _do(self, asked: Operation) -> _Done:
        if asked.kind in _VIEWS:
            return self._see(asked)
        if asked.kind in (OpKind.PLACE, OpKind.TEMPLATE):
            return self._mount(asked)
        if self.study.state == StudyState.SIGNED.value:
            raise Rejected("This study is signed. Amend it to change a finding.")
        self._demand(asked)
        if asked.kind is OpKind.ADD:
            return self._add(asked)
        if asked.kind is OpKind.CALIBRATE:
            data = CalibrateData.model_validate(asked.data)
            calibrate_image(self.tx, self._image(data.image_id), data, self.session.user_id)
            return _Done()
        row = self._find(asked)
        if not self.session.may(Right.FINDINGS_DECIDE) and asked.kind in _PROPOSALS:
            return _Done(row=row, is_proposal=True)
        if asked.kind is OpKind.RESTORE:
            return self._restore(asked, row)
        if asked.kind is OpKind.REMOVE_OWN:
            return self._remove(row)
        image = self._image(row.instance_id)
        values = edit(
            row, asked.kind, asked.data, canvas_of(image), self.session.user_id, self.tx.now
        )
        return self._change(row, values)

    def _demand(self, asked: Operation) -> None:
        may = self.session.may
        is_open = asked.kind in (*_PROPOSALS, *_OPEN) and may(Right.FINDINGS_PROPOSE)
        if not (is_open or may(Right.FINDINGS_DECIDE)):
            raise Forbidden("You need the right: decide findings. Ask an administrator.")

    def _find(self, asked: Operation) -> Row:
        """Read the finding and check that it is the one that the reader saw."""
        if asked.finding_id is None or asked.base_rev is None:
            raise InvalidInput("this operation needs finding_id and base_rev")
        row = self._row(asked.finding_id, sa.true())
        showing = study_showing(self.tx.conn, self.web.config, self.study.id)
        if row is None or not showing.keeps(row, row.run_view):
            raise NotFound("There is no such finding in this study.")
        if row.is_removed and asked.kind is not OpKind.RESTORE:
            raise _Stale(row, "This mark was taken away meanwhile.")
        if row.rev != asked.base_rev:
            raise _Stale(row, "Somebody else changed this finding first.")
        return row

    def _row(self, finding_id: str, condition: sa.ColumnElement[bool]) -> Row | None:
        return self.tx.conn.execute(
            finding_rows().where(
                finding.c.id == finding_id, finding.c.study_id == self.study.id, condition
            )
        ).first()

    def _change(self, row: Row, values: Mapping[str, object]) -> _Done:
        self.tx.conn.execute(
            finding.update().where(finding.c.id == row.id).values(**values, rev=row.rev + 1)
        )
        changed = self._row(row.id, sa.true())
        return _Done(before=snapshot(row), row=changed, finding_id=row.id)

    def _add(self, asked: Operation) -> _Done:
        image = self._image(str(asked.data.get("image_id")))
        values = added(asked.data, canvas_of(image), self.session.user_id, self.tx.now)
        finding_id = asked.finding_id or new_id()
        is_new = insert_once(
            self.tx.conn,
            finding,
            {
                **values,
                "id": finding_id,
                "location_id": self.tx.location_id,
                "study_id": self.study.id,
                "instance_id": image.id,
                "rev": 1,
                "created_at": self.tx.now,
            },
        )
        if not is_new:
            raise Rejected("A finding with this id exists already.")
        row = self._row(finding_id, sa.true())
        assert row is not None
        before = {**snapshot(row), "is_removed": True}
        return _Done(before=before, row=row, finding_id=finding_id)

    def _remove(self, row: Row) -> _Done:
        query = sa.select(operation.c.user_id).where(
            operation.c.finding_id == row.id, operation.c.kind == OpKind.ADD.value
        )
        if row.origin != "human" or self.session.user_id not in set(
            self.tx.conn.execute(query).scalars()
        ):
            raise Rejected("Only a mark of your own can be removed. Reject it instead.")
        return self._change(row, {"is_removed": True})

    def _restore(self, asked: Operation, row: Row) -> _Done:
        """Take back an own operation, unless somebody else worked on the finding after it."""
        op_id = str(asked.data.get("op_id", "")).lower()
        undone = self.tx.conn.execute(
            sa.select(operation).where(
                operation.c.op_id == op_id,
                operation.c.study_id == self.study.id,
                operation.c.finding_id == row.id,
                operation.c.user_id == self.session.user_id,
            )
        ).first()
        if undone is None or undone.before is None:
            raise Rejected("There is nothing of yours to take back.")
        others = self.tx.conn.execute(
            sa.select(operation.c.outcome).where(
                operation.c.finding_id == row.id,
                operation.c.user_id != self.session.user_id,
                operation.c.at >= undone.at,
            )
        ).scalars()
        if any(outcome.get("status") == "applied" for outcome in others):
            raise _Stale(row, "Somebody else changed this finding after you.")
        return self._change(row, restored(undone.before))

    def _see(self, asked: Operation) -> _Done:
        if not self.session.may(Right.IMAGES_SEE):
            raise Forbidden("You need the right: see images. Ask an administrator.")
        image = self._image(str(asked.data.get("image_id")))
        values = {
            "instance_id": image.id,
            "user_id": self.session.user_id,
            "location_id": self.tx.location_id,
            "seen_at": self.tx.now,
        }
        insert_once(self.tx.conn, image_view, values)
        if asked.kind is OpKind.BARE_VIEW:
            self.tx.conn.execute(
                image_view.update()
                .where(
                    image_view.c.instance_id == image.id,
                    image_view.c.user_id == self.session.user_id,
                    image_view.c.bare_at.is_(None),
                )
                .values(bare_at=self.tx.now)
            )
        return _Done()

    def _mount(self, asked: Operation) -> _Done:
        if not self.session.may(Right.IMAGES_MOUNT):
            raise Forbidden("You need the right: place images on the mount.")
        if asked.kind is OpKind.TEMPLATE:  # the operation is the choice: the last one counts
            check_template(TemplateData.model_validate(asked.data).template)
            return _Done()
        data = PlaceData.model_validate(asked.data)
        place_image(self.tx, self._image(data.image_id), data, self.session.user_id)
        return _Done()

    def _image(self, image_id: str) -> Row:
        row = self.tx.conn.execute(
            sa.select(instance).where(
                instance.c.id == image_id,
                instance.c.study_id == self.study.id,
                instance.c.state.not_in(NOT_SHOWN),
            )
        ).first()
        if row is None:
            raise NotFound("There is no such image in this study.")
        return row

    def _shape(self, row: Row) -> Finding:
        name = self.tx.conn.execute(
            sa.select(user_account.c.display_name).where(user_account.c.id == row.decided_by)
        ).scalar()
        proposed = proposals(self.tx.conn, self.study.id).get(row.id)
        return finding_shape(row, self.session, name, proposed)

    def _note(self, asked: Operation, result: OpResult) -> None:
        line: dict[str, object] = {"kind": asked.kind.value, "status": result.status}
        if asked.finding_id:
            line["finding"] = asked.finding_id
        if result.finding is not None:
            line.update(state=result.finding.state, rev=result.finding.rev)
        self.log.append(line)


def worst_status(results: Sequence[OpResult]) -> int:
    """HTTP status of an answer: 200, 409 when one was refused, 422 when one was invalid."""
    found = {result.status for result in results}
    if "invalid" in found:
        return 422
    return 409 if found & {"conflict", "refused"} else 200
