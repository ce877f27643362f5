"""The parent's side of the inference process: start it, ask it, replace it when it dies."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.analysis.comparing import (
    Area,
    Comparison,
    FilmTeeth,
    answer_from_json,
    request_to_json,
)
from node.analysis.worker import analysis_from_json
from node.config import AnalysisSection
from node.domain.findings import ImageAnalysis, ModelVersion
from node.domain.review import model_from_json
from node.errors import ConfigError, InvalidInput, Rejected, Retryable

_START_TIMEOUT_S = 120.0


class InferenceDied(Retryable):
    """The inference process ended or hung while it worked on an image."""


@dataclass(frozen=True, slots=True)
class InstalledModels:
    """What the inference process has loaded, and the tasks it has no weights for."""

    models: tuple[ModelVersion, ...]
    absent: tuple[str, ...]


class InferenceProcess:
    """One child process that analyses one image at a time; safe to call from many threads."""

    def __init__(self, config: AnalysisSection) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._installed: InstalledModels | None = None
        self._closed = False

    def installed(self) -> InstalledModels:
        """Start the process when needed and say what it loaded; raises ConfigError, Retryable."""
        with self._lock:
            return self._ensure()

    def analyse(self, path: Path) -> ImageAnalysis:
        """Analyse one stored file.

        Raises InvalidInput when it has no readable pixels, InferenceDied when the process ended
        or exceeded the configured time (it is replaced at the next call), Rejected when the models
        failed on it, ConfigError when the weights are not what they claim.
        """
        return analysis_from_json(self._answer_to({"path": str(path)}, "analysis"))

    def compare(self, now: FilmTeeth, before: FilmTeeth, areas: Sequence[Area]) -> Comparison:
        """Lay the teeth of two stored films over each other; raises as :meth:`analyse`."""
        request = {"compare": request_to_json(now, before, areas)}
        return answer_from_json(self._answer_to(request, "comparison"))

    def _answer_to(self, request: Mapping[str, object], name: str) -> Mapping[str, object]:
        with self._lock:
            self._ensure()
            answer = self._ask(request, self._config.timeout_s)
        if "unreadable" in answer:
            raise InvalidInput(str(answer["unreadable"]))
        if "failed" in answer:
            raise Rejected(str(answer["failed"]))
        content = answer[name]
        assert isinstance(content, dict)
        return content

    @property
    def process_id(self) -> int | None:
        """The child's process id while it runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

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
        options = {
            "weights_dir": self._config.weights_dir,
            "disabled": list(self._config.disabled_models),
            "threads": self._config.threads,
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
            tuple(model_from_json(model) for model in models), tuple(absent)
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
        line = _readline(self._child, timeout_s)
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


def _readline(child: subprocess.Popen[str], timeout_s: float) -> str:
    """Read one line, or nothing when the child ends or the time is over."""
    assert child.stdout is not None
    if sys.platform == "win32":
        timer = threading.Timer(timeout_s, child.kill)
        timer.start()
        try:
            return child.stdout.readline()
        finally:
            timer.cancel()
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([child.stdout], [], [], min(left, 1.0))
        if readable:
            return child.stdout.readline()
        if child.poll() is not None:
            return child.stdout.readline()
    return ""
