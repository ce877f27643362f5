"""One JSON line per event on standard error; identifiers mean nothing outside, never a name."""

from __future__ import annotations

import logging
import sys

import structlog

#: Ours; everybody else speaks from WARNING on, at whatever level we speak: at DEBUG an HTTP library
#: writes down whole headers, keys included.
_OURS = (
    "bitewing",
    "node",
    "models",
    "pms_writeback",
    "orchestration",
    "sample_studies",
    "__main__",
)
#: Their warnings repeat the values that they warn of, which may be a name or a birth date.
_REPEATING = ("pydicom", "pynetdicom", "py.warnings", "highdicom", "PIL", "paramiko", "pyx12")


def configure(level: str) -> None:
    """Send every logger through one JSON renderer, ours at `level`; libraries from WARNING on."""
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
    handler.addFilter(_repeats_nothing)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)


def _repeats_nothing(record: logging.LogRecord) -> bool:
    """Drop what repeats values; at the handler, because pydicom sets its own logger's level."""
    return record.name.partition(".")[0] not in _REPEATING and record.name not in _REPEATING
