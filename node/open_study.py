"""The chart's side of a link to a study: asks the node for a link of one use, and opens it.

Runs on the workstation where the PMS runs, as its program link: ``bitewing open-study --patient
[PatNum]``. It needs the node's address and the link key, nothing else of the node.
"""

from __future__ import annotations

import httpx2

from node.errors import InvalidInput, Rejected, Retryable

_TIMEOUT_S = 10.0


def link_to_study(
    base_url: str, key: str, *, patient_key: str = "", accession_number: str = ""
) -> str:
    """Return the address that opens the study, good for one use within two minutes.

    Raises
    ------
    InvalidInput
        Neither or both of patient and accession number are given, or the address is none.
    Rejected
        The node knows no such study, or does not accept the key.
    Retryable
        The node cannot be reached.
    """
    if bool(patient_key) == bool(accession_number):
        raise InvalidInput("give either a patient number or an accession number")
    if not base_url.startswith(("https://", "http://")):
        raise InvalidInput("the node's address begins with https://")
    body = {"patient_key": patient_key, "accession_number": accession_number}
    address = base_url.rstrip("/")
    try:
        answer = httpx2.post(
            f"{address}/api/chart-links",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
        )
    except httpx2.TransportError as error:
        raise Retryable(f"the node cannot be reached ({type(error).__name__})") from None
    if answer.status_code >= 500:
        raise Retryable("the node cannot answer now")
    if not answer.is_success:
        raise Rejected(str(answer.json().get("title", "the node refused")))
    return f"{address}{answer.json()['path']}"
