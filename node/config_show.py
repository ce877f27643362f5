"""``bitewing config``: the configuration as it is in effect, every secret masked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import typer

from node.command_options import ConfigFile, DataDir, read_settings
from node.config import Config

MASK = "********"


def show_config(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Print every key with its value in effect; secrets are masked."""
    for line in lines_of(read_settings(config, data_dir)):
        typer.echo(line)


def lines_of(config: Config) -> Iterator[str]:
    """Write a configuration as TOML; of a secret only whether it is given."""
    for section, values in config.model_dump(mode="json").items():
        yield f"[{section}]"
        for key, value in values.items():
            yield f"{key} = {_toml(value)}"
        yield ""


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{_key(name)} = {_toml(each)}" for name, each in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, str) and value and not value.strip("*"):  # how pydantic writes a secret
        return json.dumps(MASK)
    return json.dumps(value, ensure_ascii=False)


def _key(name: object) -> str:
    text = str(name)
    return text if text.replace("_", "").replace("-", "").isalnum() else json.dumps(text)
