"""``/healthz`` in plain words and ``/metrics`` for Prometheus; open to all, no patient data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from node import __version__
from node.domain.rights import Open
from node.web.shapes import Health, Part


class Probe(Protocol):
    """What one look at a part or a neighbour says."""

    @property
    def is_ok(self) -> bool:
        """Whether it works."""

    @property
    def words(self) -> str:
        """What is the case, in plain words."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a part of this node; a neighbour that is away only degrades."""


ProbeAll = Callable[[], Mapping[str, Probe]]


def health_of(found: Mapping[str, Probe]) -> Health:
    """Sum up: our own parts decide between running and failing, neighbours only degrade."""
    parts = tuple(
        Part(name=name, is_ok=probe.is_ok, is_ours=probe.is_ours, words=probe.words)
        for name, probe in found.items()
    )
    if any(part.is_ours and not part.is_ok for part in parts):
        status = "failing"
    elif all(part.is_ok for part in parts):
        status = "ok"
    else:
        status = "degraded"
    return Health.model_validate({"status": status, "version": __version__, "parts": parts})


def make_router(probes: ProbeAll, registry: CollectorRegistry) -> APIRouter:
    """Make both routes."""
    router = APIRouter()

    @router.get("/healthz", dependencies=[Depends(Open("no patient data"))])
    def healthz(response: Response) -> Health:
        """Say what runs: 200 while our own parts do, 503 when one does not."""
        health = health_of(probes())
        response.status_code = 503 if health.status == "failing" else 200
        return health

    @router.get(
        "/metrics", include_in_schema=False, dependencies=[Depends(Open("no patient data"))]
    )
    def metrics() -> Response:
        """Give every counter in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
