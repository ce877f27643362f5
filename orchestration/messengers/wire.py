"""JSON over HTTP to a messenger's service: one request, and what each failure means."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2

from node.domain.destinations import Reach
from node.errors import BitewingError, ConfigError, Rejected, Retryable
from node.outgoing import open_client
from orchestration.messengers.message import OutcomeUnknown

_MAX_ANSWER = 65_536
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Service:
    """One service; redirects and proxies of the environment are not followed."""

    def __init__(
        self, name: str, headers: Mapping[str, str], timeout_s: float, reach: Reach
    ) -> None:
        self._name = name
        self._client = open_client(
            reach, headers=headers, timeout=httpx2.Timeout(timeout_s, connect=10.0)
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def post(
        self, url: str, body: Mapping[str, str], headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Send one message once.

        Raises
        ------
        OutcomeUnknown
            It may have been taken: the answer was lost or is the service's own failure.
        """
        try:
            answer = self._client.post(url, json=dict(body), headers=dict(headers))
        except _NOT_SENT as error:
            raise self._away(error) from None
        except httpx2.RequestError as error:
            raise OutcomeUnknown(
                f"the {self._name}'s answer was lost ({type(error).__name__})"
            ) from None
        if answer.status_code >= 500 and answer.status_code != 503:
            raise OutcomeUnknown(f"the {self._name} failed ({answer.status_code})", 15.0)
        return answer

    def get(self, url: str, parameters: Mapping[str, str]) -> httpx2.Response:
        """Read; a failure of the service is Retryable."""
        try:
            answer = self._client.get(url, params=dict(parameters))
        except httpx2.RequestError as error:
            raise self._away(error) from None
        if answer.status_code >= 500:
            raise Retryable(f"the {self._name} failed ({answer.status_code})", 15.0)
        return answer

    def failure(self, answer: httpx2.Response) -> BitewingError:
        """Say what an answer that is no success means; its text may repeat an address."""
        status = answer.status_code
        if status in (401, 403, 404) or 300 <= status < 400:
            return ConfigError(f"the {self._name} refuses our key or address ({status})")
        if status in (408, 425, 429, 503):
            return Retryable(f"the {self._name} asks to wait ({status})", retry_after(answer))
        return Rejected(f"the {self._name} refused the message ({status})")

    def _away(self, error: Exception) -> Retryable:
        return Retryable(f"the {self._name} does not answer ({type(error).__name__})", 15.0)


def retry_after(answer: httpx2.Response) -> float:
    """Read how long to wait, in seconds between 1 and 600."""
    try:
        return min(600.0, max(1.0, float(answer.headers.get("retry-after", "15"))))
    except ValueError:
        return 15.0


def fields_of(answer: httpx2.Response) -> Mapping[str, object]:
    """Read an answer's JSON object; one that is none, or huge, is empty."""
    if len(answer.content) > _MAX_ANSWER:
        return {}
    try:
        value: object = answer.json()
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
