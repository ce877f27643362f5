"""The web application: routes, headers and errors put together."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from node import __version__
from node.config import Config
from node.dicom.instances import InstanceStore
from node.engine import DurableEngine
from node.web import (
    api,
    audit_page,
    auth,
    chart_context,
    chart_links,
    dicomweb,
    dicomweb_store,
    early_pictures,
    emergency,
    finding_search,
    health,
    images,
    live,
    oidc,
    own_account,
    pages,
    partners,
    patient_pages,
    people,
    presence,
    problems,
    readings,
    repairs,
    retractions,
    sign_in,
)
from node.web.cross_origin import CrossOrigin


def create_web(
    config: Config,
    db: sa.Engine,
    store: InstanceStore,
    engine: DurableEngine,
    *,
    probes: health.ProbeAll,
    metrics_registry: CollectorRegistry,
) -> FastAPI:
    """Make the web application of one location.

    Other packages' routers may be included into it; they ask for rights with
    :func:`node.web.auth.require`. Call :func:`end_streams` before the server is stopped.
    """
    app = FastAPI(
        title="Bitewing", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    web = auth.open_web(config, db, store, engine)
    app.state.web = web
    app.state.live = live.Live(web)
    app.state.pictures = images.Pictures(store)
    app.state.early_pictures = early_pictures.EarlyPictures(web, app.state.pictures)
    if config.web.dicomweb_origins:
        app.add_middleware(CrossOrigin, origins=config.web.dicomweb_origins)
    problems.install(app)
    for part in (
        sign_in,
        oidc,
        own_account,
        people,
        emergency,
        audit_page,
        partners,
        api,
        images,
        readings,
        repairs,
        presence,
        patient_pages,
        finding_search,
        chart_context,
        chart_links,
        retractions,
        live,
        pages,
        dicomweb,
        dicomweb_store,
    ):
        app.include_router(part.router)
    app.include_router(health.make_router(probes, metrics_registry))
    return app


def end_streams(app: FastAPI) -> None:
    """End the live streams within a second, so that a stopping server need not wait for them."""
    app.state.live.close()
