"""The invented outside parties of the demo, all at once: inbox, payer and laboratory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from orchestration.labs.sandbox.server import running_lab
from orchestration.messengers.sandbox.server import running_inbox
from orchestration.payers.sandbox.server import running_payer

_ANSWER_AFTER = timedelta(minutes=2)
#: The laboratories of the sandbox practice have their own keys; this is its first.
_LAB_KEY = "1"


@dataclass(frozen=True, slots=True)
class SandboxPartners:
    """What runs: sections of the configuration that lead a node there, and pages to look at."""

    sections: Mapping[str, Mapping[str, object]]
    pages: Mapping[str, str]


@contextmanager
def running_partners(
    folder: Path, web_url: str, dentist: str, staff_mail: Mapping[str, str]
) -> Iterator[SandboxPartners]:
    """Run them beside the caller, on free ports; what they know is kept in `folder`.

    `web_url` is where the node's pages are, ``http://127.0.0.1:8080``; `dentist` is the user who
    may prescribe to the laboratory.
    """
    with ExitStack() as stack:
        inbox = stack.enter_context(running_inbox(folder))
        payer = stack.enter_context(running_payer(folder, answer_after=_ANSWER_AFTER))
        callback_url = f"{web_url}/hooks/lab-sandbox"
        lab = stack.enter_context(
            running_lab(folder / "sandbox-lab", callback_url=callback_url, is_working=True)
        )
        prescriber = {
            "user": dentist,
            "name": "Dr Demo Dentist",
            "licence_number": "D-000000",
            "licence_state": "NY",
        }
        labs = {
            "practice_address": "1 Main St, Springfield NY 12345",
            "telephone": "555-555-0100",
            "contact": "Pat Office Manager",
            "infection_control": "Impressions and models disinfected",
            "partners": [{**lab.settings(), "pms_key": _LAB_KEY}],
            "prescribers": [prescriber],
        }
        yield SandboxPartners(
            sections={
                "messengers": {**inbox.settings(web_url), "staff_mail": staff_mail},
                "payers": {**payer.settings(), "poll_s": 10.0},
                "labs": labs,
            },
            pages={
                "Inbox": inbox.page_url,
                "Payer": payer.page_url,
                "Laboratory": f"{lab.url}/",
            },
        )
