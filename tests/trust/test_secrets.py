"""Secrets come from files and the environment, and are shown to nobody."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from node import config as config_module
from node.__main__ import cli
from node.config import Config, LabSection, WebhookSection, read_config, secret_names
from node.errors import ConfigError

SECRET = "s3cr3t-of-the-office-which-is-long"


def secret_file(folder: Path, mode: int = 0o600, content: str = f"{SECRET}\n") -> Path:
    path = folder / "secret"
    path.write_text(content)
    path.chmod(mode)
    return path


def every_secret() -> list[tuple[str, str]]:
    sections = [(name, field.annotation) for name, field in Config.model_fields.items()]
    return [(section, key) for section, model in sections for key in secret_names(model)]


@pytest.mark.parametrize(("section", "key"), every_secret())
def test_every_secret_may_come_from_a_file(tmp_path, section, key):
    path = secret_file(tmp_path)
    by_table = read_config(None, {}, {section: {f"{key}_file": str(path)}})
    by_variable = read_config(None, {f"BITEWING_{section}_{key}_FILE".upper(): str(path)})
    for found in (by_table, by_variable):
        value = getattr(getattr(found, section), key)
        assert isinstance(value, SecretStr)
        assert value.get_secret_value() == SECRET
        assert SECRET not in repr(found)
        assert SECRET not in str(found.model_dump())


def test_a_secret_of_a_table_may_come_from_a_file(tmp_path):
    path = str(secret_file(tmp_path))
    hook = WebhookSection.model_validate(
        {"name": "a", "url": "https://a.example/", "secret_file": path}
    )
    lab = LabSection.model_validate(
        {"key": "a", "name": "A", "transport": "api", "api_key_file": path}
    )
    assert hook.secret.get_secret_value() == lab.api_key.get_secret_value() == SECRET


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_stops_the_start(tmp_path, mode):
    path = secret_file(tmp_path, mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        read_config(None, {}, {"pms": {"customer_key_file": str(path)}})
    assert SECRET not in str(caught.value)


def test_a_secret_is_given_once(tmp_path):
    path = str(secret_file(tmp_path))
    with pytest.raises(ConfigError, match="both given"):
        read_config(None, {}, {"pms": {"customer_key": "x", "customer_key_file": path}})
    file = tmp_path / "bitewing.toml"
    file.write_text(f'[pms]\ncustomer_key_file = "{path}"\n')
    found = read_config(file, {"BITEWING_PMS_CUSTOMER_KEY": "of the environment"})
    assert found.pms.customer_key.get_secret_value() == "of the environment"


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="customer_key_file"):
        read_config(None, {}, {"pms": {"customer_key_file": str(tmp_path / "none")}})


@pytest.mark.parametrize("command", ["config", "check"])
def test_no_command_prints_a_secret(tmp_path, command):
    lines = [f'[node]\ndata_dir = "{tmp_path / "data"}"\n']
    for section, key in every_secret():
        value = "postgresql://u:" + SECRET + "@h/d" if section == "database" else SECRET
        if section != "database" or command == "config":
            lines.append(f'[{section}]\n{key} = "{value}"\n')
    lines.append(
        f'[[workflows.webhooks]]\nname = "a"\nurl = "https://a.example/"\nsecret = "{SECRET}"\n'
    )
    text = "".join(lines)
    for section in {name for name, _ in every_secret()}:  # one header each
        first, *more = text.split(f"[{section}]\n")
        text = first + (f"[{section}]\n" + "".join(more) if more else "")
    file = tmp_path / "bitewing.toml"
    file.write_text(text)
    read_config(file, {})
    done = CliRunner().invoke(cli, [command, "--config", str(file)])
    assert done.output
    assert SECRET not in done.output
    if command == "config":
        shown = tomllib.loads(done.output)
        assert shown["pms"]["customer_key"] == shown["workflows"]["webhooks"][0]["secret"]
        assert set(shown["pms"]["customer_key"]) == {"*"}
        assert shown["dicom"]["ae_title"] == "BITEWING"


def test_what_is_named_like_a_secret_is_one():
    """A key called password, secret or token can never be a plain text."""
    source = Path(config_module.__file__).read_text()
    plain = re.findall(
        r"^    (\w*(?:password|passcode|secret|token|api_key)\w*): str\b", source, re.M
    )
    assert plain == []
