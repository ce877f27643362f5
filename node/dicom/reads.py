"""What others read of the stored objects, written down before they get it: by study and object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import sqlalchemy as sa

from node.db.session import Actor, look, note_reads
from node.dicom.held import Held

#: So many answers are named each; of more the count is kept.
_NAMED = 500


def note_retrieval(
    db: sa.Engine, actor: Actor, action: str, held: Sequence[Held], **detail: object
) -> None:
    """Write down which objects are given out, an entry a study.

    Raises Retryable when the database does not take it: then nothing may be given out.
    """
    ordered = sorted(held, key=lambda each: each.study_id)
    entries = [
        look(actor, action, f"study:{study_id}", **detail, objects=len(uids), instances=uids)
        for study_id, group in groupby(ordered, key=lambda each: each.study_id)
        for uids in [[each.sop_instance_uid for each in group]]
    ]
    if not entries:
        entries = [look(actor, action, "nothing", **detail, objects=0)]
    note_reads(db, entries)


def note_search(
    db: sa.Engine, actor: Actor, action: str, level: str, uids: Iterable[str], **detail: object
) -> None:
    """Write down a search: its level, how many answers it has and which studies they are of.

    Raises Retryable when the database does not take it: then nothing may be answered.
    """
    found = list(uids)
    named = list(dict.fromkeys(found))[:_NAMED]
    note_reads(db, [look(actor, action, level, **detail, objects=len(found), studies=named)])
