"""The parent's side of the inference process: start it, ask it, replace it when it dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.analysis.answer_line import read_line
from node.analysis.comparing import (
    Area,
    Comparison,
    FilmTeeth,
    answer_from_json,
    request_to_json,
)
from node.analysis.worker import analysis_from_json
from node.config import AnalysisSection, ModelSection
from node.dicom.object_file import ObjectFile, file_to_json
from node.domain.findings import ImageAnalysis, ModelVersion
from node.domain.review import model_from_json
from node.errors import BitewingError, ConfigError, InvalidInput, Rejected, Retryable

#: Exporting the networks for a faster runtime, once, takes its time.
_START_TIMEOUT_S = 300.0


class InferenceDied(Retryable):
    """The inference process ended or hung while it worked on an image."""


@dataclass(frozen=True, slots=True)
class InstalledModels:
    """What the inference process has loaded, and the tasks it has no weights for.

    ``at_once`` is how many images it reads together.
    """

    models: tuple[ModelVersion, ...]
    absent: tuple[str, ...]
    at_once: int = 1


@dataclass(slots=True, eq=False)
class _Ticket:
    """One request that waits for its answer; those of one pipeline may be asked together."""

    path: ObjectFile | None
    pipeline: int
    comparison: Mapping[str, object] | None = None
    answer: Mapping[str, object] | None = None
    error: BitewingError | None = None

    @property
    def is_served(self) -> bool:
        return self.answer is not None or self.error is not None

    def goes_with(self, other: _Ticket) -> bool:
        is_image = self.path is not None and other.path is not None
        return is_image and self.pipeline == other.pipeline


class InferenceProcess:
    """One child process that analyses images; safe to call from many threads.

    On a GPU the images that wait at the same time are read together (`at_once` sets how many), on
    a CPU one by one. `cache` is the folder for exported networks. With `shadows` the process makes
    way for everything else and can read with these networks in place of the live ones.
    """

    def __init__(
        self,
        config: AnalysisSection,
        cache: Path | None = None,
        shadows: Sequence[ModelSection] = (),
        log_level: str = "WARNING",
        at_once: int | None = None,
    ) -> None:
        self._config, self._shadows = config, tuple(shadows)
        self._cache, self._log_level, self._at_once = cache, log_level, at_once
        self._lock = threading.Lock()
        self._queue: deque[_Ticket] = deque()
        self._child: subprocess.Popen[str] | None = None
        self._installed: InstalledModels | None = None
        self._closed = False

    def installed(self) -> InstalledModels:
        """Start the process when needed and say what it loaded; raises ConfigError, Retryable."""
        with self._lock:
            return self._ensure()

    def analyse(self, path: ObjectFile, shadow: int | None = None) -> ImageAnalysis:
        """Analyse one stored file, with the network of `shadows` number `shadow` if given.

        Raises InvalidInput when it has no readable pixels, InferenceDied when the process ended
        or exceeded the configured time (it is replaced at the next call), Rejected when the models
        failed on it, ConfigError when the weights are not what they claim.
        """
        pipeline = 0 if shadow is None else 1 + shadow
        return analysis_from_json(self._answer_to(_Ticket(path, pipeline), "analysis"))

    def compare(self, now: FilmTeeth, before: FilmTeeth, areas: Sequence[Area]) -> Comparison:
        """Lay the teeth of two stored films over each other; raises as :meth:`analyse`."""
        ticket = _Ticket(None, 0, request_to_json(now, before, areas))
        return answer_from_json(self._answer_to(ticket, "comparison"))

    def _answer_to(self, ticket: _Ticket, name: str) -> Mapping[str, object]:
        self._queue.append(ticket)
        with self._lock:
            if not ticket.is_served:
                self._serve(ticket)
        if ticket.error is not None:
            raise ticket.error
        answer = ticket.answer
        assert answer is not None
        if "unreadable" in answer:
            raise InvalidInput(str(answer["unreadable"]))
        if "failed" in answer:
            raise Rejected(str(answer["failed"]))
        content = answer[name]
        assert isinstance(content, dict)
        return content

    def _serve(self, first: _Ticket) -> None:
        """Answer `first` and whoever waits beside it; what goes wrong is kept in the tickets."""
        if first in self._queue:
            self._queue.remove(first)
        try:
            most = self._ensure().at_once
        except BitewingError as error:
            first.error = error
            return
        taken = [first]
        for ticket in list(self._queue):
            if len(taken) < most and ticket.goes_with(first):
                self._queue.remove(ticket)
                taken.append(ticket)
        try:
            self._request(taken)
        except InferenceDied as died:
            if len(taken) == 1:
                first.error = died
                return
            # One of them may have killed the process: each by itself, so that only that one fails.
            for ticket in taken:
                self._request_alone(ticket)

    def _request(self, taken: Sequence[_Ticket]) -> None:
        request: dict[str, object]
        if taken[0].comparison is not None:
            request = {"compare": taken[0].comparison}
        else:
            request = {
                "files": [file_to_json(t.path) for t in taken if t.path is not None],
                "pipeline": taken[0].pipeline,
            }
        answers = self._ask(request, self._config.timeout_s * len(taken))["answers"]
        assert isinstance(answers, list)
        for ticket, answer in zip(taken, answers, strict=True):
            ticket.answer = answer

    def _request_alone(self, ticket: _Ticket) -> None:
        try:
            self._ensure()
            self._request([ticket])
        except BitewingError as error:
            ticket.error = error

    @property
    def process_id(self) -> int | None:
        """The child's process id while it runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    @property
    def waiting(self) -> int:
        """How many requests wait for the one in progress."""
        return len(self._queue)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._closed = True
            self._discard()

    def _ensure(self) -> InstalledModels:
        if self._closed:
            raise Retryable("the node is stopping")
        if self._child is not None and self._child.poll() is None and self._installed is not None:
            return self._installed
        self._discard()
        config = self._config
        options = {
            "weights_dir": config.weights_dir,
            "disabled": list(config.disabled_models),
            "threads": 1 if self._shadows else config.threads,
            "models": [model.model_dump(mode="json") for model in config.models],
            "shadows": [model.model_dump(mode="json") for model in self._shadows],
            "runtime": config.runtime,
            "device": config.device,
            "cache": str(self._cache.absolute()) if self._cache else "",
            "log_level": self._log_level,
        }
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "node.analysis.worker", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        hello = self._read(_START_TIMEOUT_S)
        if "fatal" in hello:
            self._discard()
            raise ConfigError(str(hello["fatal"]))
        models, absent = hello["models"], hello["absent"]
        assert isinstance(models, list)
        assert isinstance(absent, list)
        self._installed = InstalledModels(
            tuple(model_from_json(model) for model in models),
            tuple(absent),
            self._at_once or int(str(hello["at_once"])),
        )
        return self._installed

    def _ask(self, request: Mapping[str, object], timeout_s: float) -> Mapping[str, object]:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        except OSError:
            self._discard()
            raise InferenceDied("the inference process ended", retry_after_s=1.0) from None
        return self._read(timeout_s)

    def _read(self, timeout_s: float) -> Mapping[str, object]:
        assert self._child is not None
        line = read_line(self._child, timeout_s)
        if not line:
            self._discard()
            raise InferenceDied("the inference process ended or took too long", retry_after_s=1.0)
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def _discard(self) -> None:
        child, self._child, self._installed = self._child, None, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
