"""One JSON line per event on standard error; identifiers mean nothing outside, never a name."""

from __future__ import annotations

import logging
import sys

import structlog

_QUIET = (
    *("pynetdicom", "pydicom", "sqlalchemy", "dbos", "uvicorn", "alembic", "httpx2"),
    *("torch", "onnx_ir", "onnxscript"),
)


def configure(level: str) -> None:
    """Send every logger through one JSON renderer at `level`; libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
