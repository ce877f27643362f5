"""Answering the node's questions: from the warehouse, from the practice, or by a command.

Every answer is a value or an error of a known family; a bug is told by its place in our code only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.errors import BitewingError, InvalidInput, Unsupported
from pms_writeback.bridge.commands import Commands
from pms_writeback.bridge.limits import KillSwitch
from pms_writeback.bridge.protocol import (
    Answer,
    Json,
    Method,
    Request,
    as_object,
    number,
    rows_to_json,
    text,
)
from pms_writeback.bridge.snapshots import Snapshots
from pms_writeback.bridge.warehouse import Warehouse
from pms_writeback.bridge.wire import decode_command, receipt_to_json
from pms_writeback.pms import OutcomeUnknown

MAX_PAGE_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Questions:
    """What a bridge can be asked; `report` is told of our own bugs."""

    commands: Commands
    snapshots: Snapshots
    warehouse: Warehouse
    switch: KillSwitch
    report: Callable[[str, Exception], None]

    def answer(self, request: Request, version: int) -> Answer:
        """Answer one question in the negotiated protocol version."""
        try:
            return Answer(request.id, "ok", self._do(request, version))
        except BitewingError as error:
            return Answer.of_error(request.id, error)
        except Exception as error:  # noqa: BLE001 - an edge: the node hears of it, nobody's name
            self.report(request.method, error)
            return Answer.of_error(
                request.id, OutcomeUnknown(f"the bridge failed ({type(error).__name__})", 30.0)
            )

    def _do(self, request: Request, version: int) -> Json:
        params = request.params
        match request.method:
            case Method.PULL:
                return self._pull(params, version)
            case Method.READ:
                row = self.snapshots.read_row(text(params, "table"), text(params, "key"))
                return rows_to_json([] if row is None else [row], version)
            case Method.WRITE:
                command = decode_command(as_object(params.get("command")))
                valid_for_s = number(params, "valid_for_s", 60.0) - request.age_s
                receipt = self.commands.write(command, valid_for_s, request.id)
                return {"receipt": receipt_to_json(receipt)}
            case Method.FIND:
                found = self.commands.find(decode_command(as_object(params.get("command"))))
                return {"receipt": None if found is None else receipt_to_json(found)}
            case _:
                raise Unsupported(f"this bridge does not know {request.method[:30]!r}; update it")

    def _pull(self, params: Json, version: int) -> Json:
        table = self.snapshots.table(text(params, "table"))
        limit = int(number(params, "limit", 500))
        if not 1 <= limit <= MAX_PAGE_ROWS:
            raise InvalidInput(f"a page has 1 to {MAX_PAGE_ROWS} rows")
        after = int(number(params, "after", 0))
        page = self.warehouse.page(table.name, str(params.get("epoch", "")), after, limit)
        return {
            "epoch": page.epoch,
            "after": page.seq,
            "is_last": page.is_last,
            "as_of": page.as_of.isoformat() if page.as_of else None,
            "problem": self.switch.reason or self.snapshots.problems.get(table.name, ""),
            **rows_to_json(page.rows, version),
        }
