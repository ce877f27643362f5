"""What reaches the log at DEBUG: our own words, and no library's copy of what passed through it."""

import json
import os
import subprocess
import sys
import textwrap

PROGRAM = """
    import logging, sys, warnings
    from node import logs

    logs.configure("DEBUG")
    logging.getLogger("bitewing.test").debug("ours", extra={"study": "abc"})
    logging.getLogger("node.dicom.store").debug("ours too")
    for name in ("httpcore2.http11", "httpx2", "asyncio", "python_multipart"):
        logging.getLogger(name).info("Authorization: Bearer Quirinella")
        logging.getLogger(name).debug("Authorization: Bearer Quirinella")
    for name in ("pydicom", "pynetdicom.dimse"):
        logging.getLogger(name).error("PatientName Quirinella")
    from pydicom.dataset import Dataset
    ds = Dataset()
    ds.PatientBirthDate = "Quirinella"
    ds.StudyInstanceUID = "Quirinella"
    warnings.warn("the value Quirinella is none")
    logging.getLogger("somebody").warning("theirs")
"""


def test_only_our_own_loggers_speak_below_warning():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "Quirinella" not in done.stderr + done.stdout
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["ours", "ours too", "theirs"]
    assert lines[0]["study"] == "abc"
