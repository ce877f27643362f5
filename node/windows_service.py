"""The node and the bridge as Windows services, by pywin32; elsewhere a clear refusal.

A service keeps one child running, the same command line as under systemd: it is started again when
it ends by itself (after an update, for one) and asked to end with Ctrl-Break.
"""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from node.errors import ConfigError, InvalidInput

ACTIONS = ("install", "remove", "start", "stop")
_STOP_WAIT_S = 20.0
_RESTART_WAIT_S = 5.0
_OPTION = "bitewing-command"


@dataclass(frozen=True, slots=True)
class Service:
    """One of our services: `host` is the class that Windows starts, in this module."""

    name: str
    display_name: str
    description: str
    host: str
    unit: str


NODE = Service(
    "BitewingNode",
    "Bitewing node",
    "Receives dental images, suggests findings, delivers signed results.",
    "NodeService",
    "deploy/bitewing.service",
)
BRIDGE = Service(
    "BitewingBridge",
    "Bitewing bridge",
    "Reads the practice's schedule for the Bitewing node and delivers results.",
    "BridgeService",
    "deploy/bitewing-bridge.service",
)


def ask_to_end(child: subprocess.Popen[bytes]) -> None:
    """End a child politely (Ctrl-Break or SIGTERM), and by force when it does not listen.

    Windows delivers Ctrl-Break through a console, which a service need not have: then the child is
    ended at once. Nothing acknowledged is lost by that, as by a power cut.
    """
    if sys.platform == "win32":
        import signal

        try:
            child.send_signal(signal.CTRL_BREAK_EVENT)
        except OSError:
            child.terminate()
    else:
        child.terminate()
    try:
        child.wait(_STOP_WAIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@dataclass(slots=True)
class Keeper:
    """Keeps one child process running until it is told to stop; the same on every system."""

    command: tuple[str, ...]
    restart_wait_s: float = _RESTART_WAIT_S
    end: Callable[[subprocess.Popen[bytes]], None] = ask_to_end
    starts: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Start the child, and again when it ends, until `stop` is called."""
        while not self._stopping.is_set():
            child = subprocess.Popen(self.command, creationflags=_new_group())
            self.starts += 1
            while child.poll() is None and not self._stopping.wait(0.2):
                continue
            if child.poll() is None:
                self.end(child)
            elif self._stopping.wait(self.restart_wait_s):
                return

    def stop(self) -> None:
        """Ask the child to end, and start no other."""
        self._stopping.set()


def command_line(*arguments: str) -> tuple[str, ...]:
    """Give the command line that runs this program with these arguments."""
    return (sys.executable, "-m", "node", *arguments)


def control(action: str, service: Service, command: tuple[str, ...]) -> str:
    """Install, remove, start or stop a service; returns what was done, in words.

    Raises
    ------
    InvalidInput
        There is no such action.
    ConfigError
        This is not Windows, or pywin32 is not installed.
    """
    if action not in ACTIONS:
        raise InvalidInput(f"no such action: {action[:20]!r} ({', '.join(ACTIONS)})")
    util = _pywin32(service)
    if action == "install":
        util.InstallService(
            f"{__name__}.{service.host}",
            service.name,
            service.display_name,
            startType=importlib.import_module("win32service").SERVICE_AUTO_START,
            description=service.description,
        )
        # The host is another program than this one: it must be told which Python to start, where.
        told = json.dumps({"command": command, "folder": str(Path.cwd())})
        util.SetServiceCustomOption(service.name, _OPTION, told)
    elif action == "remove":
        util.RemoveService(service.name)
    elif action == "start":
        util.StartService(service.name)
    else:
        util.StopService(service.name)
    return f"the service {service.name}: {action} done"


def _new_group() -> int:
    """Give Windows' flag that lets Ctrl-Break reach the child alone; 0 elsewhere."""
    return int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))


def _pywin32(service: Service) -> ModuleType:
    if platform.system() != "Windows":
        raise ConfigError(
            f"Windows services are for Windows: here use the systemd unit {service.unit}"
        )
    try:
        return importlib.import_module("win32serviceutil")
    except ImportError:
        raise ConfigError("pywin32 is not installed: install bitewing[windows]") from None


if sys.platform == "win32":  # the base class exists on Windows only
    import os

    import win32service
    import win32serviceutil

    class _Kept(win32serviceutil.ServiceFramework):  # type: ignore[misc]
        """What Windows' service manager starts and stops."""

        def __init__(self, args: list[str]) -> None:
            super().__init__(args)
            told = json.loads(win32serviceutil.GetServiceCustomOption(self._svc_name_, _OPTION))
            os.chdir(told["folder"])
            self._keeper = Keeper(tuple(told["command"]))

        def SvcStop(self) -> None:
            """Say that stopping takes a while, and stop the child."""
            self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)
            self._keeper.stop()

        def SvcDoRun(self) -> None:
            """Run until stopped."""
            self._keeper.run()

    class NodeService(_Kept):
        """``bitewing serve``."""

        _svc_name_ = NODE.name
        _svc_display_name_ = NODE.display_name

    class BridgeService(_Kept):
        """``bitewing bridge run``."""

        _svc_name_ = BRIDGE.name
        _svc_display_name_ = BRIDGE.display_name
