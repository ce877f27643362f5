"""The door for a laboratory's calls: verified, read, and told to the case that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from orchestration.labs.callbacks import read_callback, update_to_json
from orchestration.labs.partner import LabUpdate
from orchestration.webhooks import Delivery
from orchestration.workflow import Draft, Signal

#: The workflow's stored name, and the topic of a laboratory's words.
LAB_CASE, TOPIC = "lab_case", "lab"


@dataclass(frozen=True, slots=True)
class LabSource:
    """Reads one laboratory's calls, for `orchestration.webhooks`."""

    lab_key: str
    secret: str = field(repr=False)

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
        """Verify and read one call; raises Forbidden or InvalidInput."""
        update = read_callback(self.secret, body, headers.get("x-signature", ""), now)
        signal = signal_of(self.lab_key, update)
        return Delivery(update.delivery_id, [(LAB_CASE, signal)])


def signal_of(lab_key: str, update: LabUpdate) -> Signal:
    """Make the signal that tells a case what its laboratory said."""
    payload = cast("Draft", {**update_to_json(update), "lab": lab_key})
    key = case_key(update.case_number)
    return Signal(key, TOPIC, f"{lab_key}:{update.delivery_id}"[:128], payload)


def case_key(case_number: str) -> str:
    """Give the key of the case; a remake's number is the original's with ``-R1`` behind it."""
    return case_number.partition("-R")[0]
