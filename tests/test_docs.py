"""The documents keep up with the program."""

import re
from pathlib import Path

import pytest

from node import errors
from node.__main__ import cli
from node.domain.events import EventKind

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("kind", list(EventKind))
def test_every_event_is_documented(kind: EventKind) -> None:
    assert f"`{kind.value}`" in ARCHITECTURE


@pytest.mark.parametrize("family", ["ConfigError", "InvalidInput", "Retryable", "Rejected"])
def test_every_error_family_is_documented(family: str) -> None:
    assert hasattr(errors, family)
    assert f"`{family}`" in ARCHITECTURE


def test_every_command_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    names = [c.name or c.callback.__name__.replace("_", "-") for c in cli.registered_commands]
    for name in names:
        assert f"`bitewing {name}" in readme or name in ("version",), name
    assert len(readme.splitlines()) <= 120


def test_every_threat_has_its_test() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for line in page.partition("## Threats")[2].partition("## Left")[0].splitlines()[4:]:
        named = re.findall(r"`(test_\w+)`", line)
        assert named or not line.strip(), line
        for name in named:
            assert f"def {name}(" in sources, name


def test_links_lead_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_files_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(
        r"`((?:node|models|pms_writeback|orchestration|docs|training)/[^`]*)`", text
    ):
        assert (ROOT / name).exists(), name
