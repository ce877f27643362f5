"""A film that one node received is shown by another that never had it on its disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from node.config import Config
from node.db.session import read
from node.db.tables import instance
from node.web.accounts import create_user
from tests.faults.running_node import PASSWORD, ROOT, Reviewer, free_port, until
from tests.node.objects.bad_line import BadLine
from tests.node.objects.conftest import ACTOR, Open
from tests.protocol.conftest import make_film, tool, write

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]


@contextmanager
def serving(config: Config, folder: Path, parts: str, dicom_port: int) -> Iterator[str]:
    """Run a node of its own over a configuration; give the address of its pages."""
    objects, port = config.objects, free_port()
    folder.mkdir(exist_ok=True)
    file, log = folder / "bitewing.toml", folder / "log"
    file.write_text(f"""
[node]
data_dir = "{config.node.data_dir}"
[database]
url = "{config.database.url.get_secret_value()}"
executor_id = "{config.node.data_dir.name}"
[dicom]
host = "127.0.0.1"
port = {dicom_port}
[web]
port = {port}
[encryption]
key_file = "{config.encryption.key_file}"
[objects]
endpoint = "{objects.endpoint}"
bucket = "{objects.bucket}"
prefix = "{objects.prefix}"
access_key = "{objects.access_key.get_secret_value()}"
secret_key = "{objects.secret_key.get_secret_value()}"
""")
    process = subprocess.Popen(
        [sys.executable, "-m", "node", "serve", "--only", parts, "--config", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=log.open("wb"),
        cwd=folder,
    )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"{url}/healthz", timeout=5).status_code in (200, 503)
        return False

    try:
        until(is_up, 120, "the node's start")
        yield url
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_film_is_shown_by_a_node_that_never_received_it(
    configured: Callable[..., Config], place: Open, line: BadLine, tmp_path: Path
) -> None:
    first, dicom_port = configured("first"), free_port()
    film = write(make_film(), tmp_path / "film.dcm")
    line.fault = "away"
    with serving(first, tmp_path / "one", "dicom,web", dicom_port) as url:
        subprocess.run(  # taken while the bucket is away
            [tool("storescu"), "127.0.0.1", str(dicom_port), str(film)], check=True, timeout=60
        )
        receiver = place("first", cache_days=0.01)
        with read(receiver.db) as conn:
            image = conn.execute(sa.select(instance)).one()
        key = image.storage_key
        until(lambda: receiver.states(key) == ["waiting"], 60, "the mover's look")
        words = httpx2.get(f"{url}/healthz", timeout=30).text
        assert "waiting for the bucket: 1" in words
        line.fault = ""
        until(lambda: receiver.states(key) == ["confirmed"], 120, "the upload")
        assert "bitewing_objects_waiting 0.0" in httpx2.get(f"{url}/metrics", timeout=30).text
    receiver.move(later=timedelta(hours=1))
    assert not receiver.file(key).exists()

    second = configured("second")
    second.node.data_dir.mkdir()
    shutil.copyfile(first.node.data_dir / "engine.key", second.node.data_dir / "engine.key")
    create_user(
        receiver.db, ACTOR, username="dentist", display_name="Dr Test", role="dentist",
        password=PASSWORD,
    )  # fmt: skip
    with serving(second, tmp_path / "two", "web", free_port()) as url:
        dentist = Reviewer(url)
        (shown,) = dentist.study(image.study_id)["images"]
        assert shown["id"] == image.id
        answer = dentist.get(f"/api/images/{image.id}/pixels")
        assert answer.status_code == 200, answer.text
        assert answer.content == make_film().PixelData
        assert dentist.get(f"/api/images/{image.id}/dicom").status_code == 200
    assert not (second.node.data_dir / "images" / key).exists()
