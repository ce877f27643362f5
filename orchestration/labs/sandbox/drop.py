"""The sandbox laboratory's SFTP drop: packages come into ``incoming/``, words and bills lie ready.

A package counts once it is renamed to ``*.zip`` and its ``*.zip.sha256`` lies beside it. Words are
``status/<id>.json``, invoices ``invoices/<number>.csv``.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path

from node.errors import BitewingError
from orchestration.labs.callbacks import update_to_json
from orchestration.labs.package import read_package
from orchestration.labs.sandbox.bench import Bench

FOLDERS = ("incoming", "status", "invoices", "refused")


class Drop:
    """The folders behind the SFTP server, and taking in what lies there."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self._alone = threading.Lock()
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def run_once(self) -> int:
        """Take packages in, lay words and invoices out; returns how many packages were taken."""
        with self._alone:  # the bench and the SFTP server's threads
            return self._run()

    def _run(self) -> int:
        taken = sum(self._take(path) for path in sorted((self.folder / "incoming").glob("*.zip")))
        for job in self.bench.jobs.values():
            for update in self.bench.updates(job.case_number):
                text = json.dumps(update_to_json(update))
                self._lay(self.folder / "status" / f"{update.delivery_id}.json", text)
        for bill in self.bench.invoices():
            sheet = io.StringIO()
            writer = csv.DictWriter(sheet, list(bill))
            writer.writeheader()
            writer.writerow(bill)
            self._lay(self.folder / "invoices" / f"{bill['number']}.csv", sheet.getvalue())
        return taken

    def _take(self, path: Path) -> bool:
        """Take one package unless it was taken before; what is none is put aside."""
        digest = path.with_name(path.name + ".sha256")
        if not digest.exists() or any(j.file_name == path.name for j in self.bench.jobs.values()):
            return False
        sha256 = digest.read_text().split()[0]
        try:
            with path.open("rb") as file:
                number = read_package(file).rx.case_number
                file.seek(0)
                self.bench.take(number, path.name, sha256, file)
        except BitewingError:
            path.rename(self.folder / "refused" / path.name)
            return False
        return True

    @staticmethod
    def _lay(path: Path, text: str) -> None:
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_text(text)
            part.replace(path)
