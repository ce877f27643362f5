"""Pictures drawn before anybody asks: those of a study as soon as it is ready to be read."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import event, instance
from node.domain.events import EventKind
from node.errors import BitewingError
from node.web.auth import Web
from node.web.images import Pictures

log = logging.getLogger(__name__)


class EarlyPictures:
    """Follows the events and decodes each ready study's images once, in the background.

    Nothing depends on it: what it has not drawn is drawn when it is asked for.
    """

    def __init__(self, web: Web, pictures: Pictures) -> None:
        self._web = web
        self._pictures = pictures
        self._seen = -1

    def follow(self) -> int:
        """Draw the images of studies that became ready since the last call; returns how many.

        The first call only notes where the events stand.
        """
        here = event.c.location_id == self._web.location_id
        with read(self._web.db) as conn:
            last = int(conn.execute(sa.select(sa.func.max(event.c.seq)).where(here)).scalar() or 0)
            is_new = sa.and_(event.c.seq > self._seen, event.c.seq <= last)
            ready = sa.select(event.c.subject).where(
                here, is_new, event.c.kind == EventKind.STUDY_READY.value
            )
            images = conn.execute(
                sa.select(instance)
                .where(instance.c.study_id.in_(ready))
                .order_by(instance.c.study_id, instance.c.instance_number, instance.c.id)
            ).all()
        is_first, self._seen = self._seen < 0, last
        if is_first:
            return 0
        for image in images:
            try:
                self._pictures.prepare(image)
            except BitewingError as error:  # it is said again to whoever opens the image
                log.info("a picture could not be drawn early: %s", type(error).__name__)
        return len(images)
