"""The packages that are imported are ours."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "name", ["node", "models", "pms_writeback", "orchestration", "sample_studies", "training"]
)
def test_a_foreign_package_does_not_shadow_ours(name: str) -> None:
    module = import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "cv2"):
    sys.modules[name] = None
import tempfile, urllib.request
from pathlib import Path
from node.app import Node, parse_parts
from node.config import read_config
config = read_config(environment={}, overrides={
    "node": {"data_dir": Path(tempfile.mkdtemp())},
    "dicom": {"port": 0, "host": "127.0.0.1"},
    "web": {"port": 0},
})
node = Node(config, parse_parts("dicom,web,workflows"))
node.start()
with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/healthz") as answer:
    assert answer.status == 200
node.stop()
print("fine")
"""


def test_the_base_install_runs_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "fine", done.stderr[-2000:]


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    analysis = project["optional-dependencies"]["analysis"]
    text = (ROOT / "docs/decisions/0005-dependencies.md").read_text().lower()
    for requirement in [*project["dependencies"], *analysis]:
        name = re.split(r"[\[<>=]", requirement)[0].lower()
        short = name.removeprefix("opencv-python-headless") or "opencv"
        assert short.replace("pylibjpeg-openjpeg", "pylibjpeg") in text, name


def test_the_wheel_has_every_file_that_the_packages_have() -> None:
    """What pip installs elsewhere is whole: pages, templates, rules, weights, sample films."""
    builder = WheelBuilder(str(ROOT))
    shipped = {file.distribution_path for file in builder.recurse_included_files()}
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    kept = subprocess.run(
        ["git", "ls-files", *builder.config.packages], cwd=ROOT, capture_output=True, text=True
    )
    if kept.returncode:
        pytest.skip("this is no git checkout")
    assert set(kept.stdout.splitlines()) <= shipped
    assert "node/web/pages/login.html" in shipped


def test_the_version_stands_in_one_place_and_in_the_changelog() -> None:
    version = WheelBuilder(str(ROOT)).metadata.version
    assert version == import_module("node").__version__
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"Bitewing node, {version}." in (ROOT / "docs" / "conformance.md").read_text()
