"""What a browser can show of a study before any script ran: its first image, drawn small.

The page's head names the picture and the samples, so that the browser fetches them beside the
scripts; its body shows the picture where the stage will be. Addresses hold ids only.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import image_place, instance
from node.domain.study import NOT_SHOWN, InstanceState
from node.web.auth import Web
from node.web.facts import Row, find_study
from node.web.images import WIDTHS, Pictures
from node.web.shapes import Preferences

_HIDDEN = (*NOT_SHOWN, InstanceState.UNREADABLE.value)


def first_image(web: Web, study_id: str) -> Row | None:
    """Find the image that the page opens with; None when there is none. Raises NotFound."""
    turns = sa.func.coalesce(image_place.c.quarter_turns, 0)
    with read(web.db) as conn:
        find_study(conn, web.location_id, study_id)
        return conn.execute(
            sa.select(instance, (turns != 0).label("is_turned"), image_place.c.is_mirrored)
            .outerjoin(image_place, image_place.c.instance_id == instance.c.id)
            .where(
                instance.c.study_id == study_id,
                instance.c.state.not_in(_HIDDEN),
                instance.c.rows.is_not(None),
            )
            .order_by(instance.c.instance_number, instance.c.received_at, instance.c.id)
            .limit(1)
        ).first()


def preloads(image: Row | None, pictures: Pictures) -> str:
    """Name what the first picture needs, for the head of the page."""
    if image is None:
        return ""
    small = f'<link rel="preload" as="image" fetchpriority="high" href="{_preview(image)}">\n'
    if pictures.is_color(image):
        return small
    samples = f"/api/images/{image.id}/pixels"
    return f'{small}<link rel="preload" as="fetch" crossorigin href="{samples}">\n'


def placeholder(image: Row | None, preferences: Preferences) -> str:
    """Draw the page's frame with the picture in it; the scripts put the real page in its place.

    An image that somebody turned or mirrored is left to the scripts.
    """
    shown = image if image and not image.is_turned and not image.is_mirrored else None
    picture = (
        f'<img id="first" data-id="{shown.id}" src="{_preview(shown)}" alt=""'
        ' elementtiming="first">'
        if shown
        else ""
    )
    return (
        f'<div class="review panel-{preferences.panel}" id="frame" aria-hidden="true">'
        '<div class="topbar"></div><div class="desk"><div class="rail"></div><div class="middle">'
        f'<div class="stage">{picture}</div><div class="strip"></div></div>'
        '<div class="sidewrap"></div></div><div class="footline reviewfoot"></div></div>'
    )


def _preview(image: Row) -> str:
    return f"/api/images/{image.id}/preview?w={WIDTHS[-1]}"
