"""The receiving process: established storage associations served, and nothing else.

The node accepts, negotiates and hands over the socket; here the objects go to the disk, and each
is reported to the node, which writes its rows and gives the answer. The process knows no database
and no DICOM library, so it stays small, and an object that a stranger sends never meets the node's
memory. It ends when the node does: its end of the control socket is closed then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
from dataclasses import dataclass

from node.dicom.digester import Digester
from node.dicom.gulps import Gulps, HungUp
from node.dicom.parts import PartFolder, part_folder_of
from node.dicom.reception import Reception
from node.dicom.report import Report, failed
from node.dicom.storage_association import Broken, StorageAssociation, abort_pdu, end

#: No hand-over is longer: 128 presentation contexts of two UIDs each.
MOST_BYTES = 65_536
STATUS = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Line:
    """The connection to the node of one association."""

    folder: PartFolder
    location_id: str
    socket: socket.socket
    digester: Digester

    def begin(
        self, class_uid: str, instance_uid: str, syntax_uid: str, calling_ae: str
    ) -> Reception:
        """Begin to receive an object; what is wrong is said when it is finished."""
        reception = Reception(self.folder, self.location_id, self.digester, self.tell)
        reception.open(class_uid, instance_uid, syntax_uid, calling_ae)
        return reception

    def tell(self, report: Report) -> int:
        """Report an object; return the status for its sender. Raises HungUp when nobody answers."""
        try:
            self.socket.send(report.to_bytes())
            answer = self.socket.recv(STATUS.size)
        except OSError as error:
            raise HungUp from error
        if len(answer) != STATUS.size:
            raise HungUp
        return int(STATUS.unpack(answer)[0])


def main() -> None:
    """Serve the associations that the node hands over, until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the node says when
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    crowd = set[Digester]()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, 2)
        if not message:
            os._exit(0)  # what is under way was never answered
        sock, line = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        digester = Digester(crowd, len(os.sched_getaffinity(0)))
        threading.Thread(target=_serve, args=(sock, line, message, digester), daemon=True).start()


def _serve(sock: socket.socket, to_node: socket.socket, message: bytes, digester: Digester) -> None:
    with sock, to_node, contextlib.suppress(HungUp, OSError):
        terms = json.loads(message)
        line = Line(part_folder_of(terms["store"]), terms["location_id"], to_node, digester)
        association = StorageAssociation(
            sock,
            Gulps(sock),
            line.begin,
            {int(number): tuple(syntaxes) for number, syntaxes in terms["accepted"].items()},
            terms["calling_ae"],
            terms["peer_pdu_bytes"],
        )
        try:
            association.run()
        except Broken as broken:
            end(sock, abort_pdu(2, broken.reason))
        except (HungUp, OSError):  # the connection is gone: there is nobody to be told
            return
        except Exception as error:  # noqa: BLE001 - the edge: one connection, not the process
            line.tell(failed("", error))  # the node logs it
        finally:
            association.discard()
            digester.close()


if __name__ == "__main__":
    main()
