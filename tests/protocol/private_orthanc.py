"""Run Orthanc where only this machine can reach it.

Orthanc's DICOM port listens on every interface and cannot be told otherwise (seen in 1.10). So it
runs in a network namespace of its own, and its ports come out through Unix sockets. As a program:
``unshare -rn python private_orthanc.py ORTHANC CONFIG FOLDER PORT...``; a port with ``>`` before it
leads out instead, to the Unix socket of that number.
"""

import contextlib
import fcntl
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

SIOCSIFFLAGS = 0x8914
IFF_UP_AND_RUNNING = 0x41


def relay(listener: socket.socket, connect) -> None:
    """Join every connection made to `listener` with a new one made by `connect`."""

    def accept() -> None:
        with contextlib.suppress(OSError):  # until the listener is closed
            while True:
                near, _ = listener.accept()
                try:
                    far = connect()
                except OSError:
                    near.close()
                    continue
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=(a, b), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            end.shutdown(how)


def listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def connect_unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", IFF_UP_AND_RUNNING)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def main(orthanc: str, config: str, folder: str, *ports: str) -> int:
    bring_loopback_up()
    for port in ports:
        if port.startswith(">"):
            relay(
                socket.create_server(("127.0.0.1", int(port[1:]))),
                lambda port=port: connect_unix(Path(folder) / port[1:]),
            )
            continue
        relay(
            listen_unix(Path(folder) / port),
            lambda port=port: socket.create_connection(("127.0.0.1", int(port))),
        )
    process = subprocess.Popen([orthanc, config])
    try:
        sys.stdin.read()  # the test closes our standard input when it is done
    finally:
        process.terminate()
        process.wait(60)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
