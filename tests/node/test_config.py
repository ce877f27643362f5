"""Reading the configuration: order of sources, clear errors, the manual is complete."""

import tomllib
from pathlib import Path

import pytest

from node.config import Config, Mode, PeerSection, StationSection, read_config
from node.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs"
#: Keys that are tables of their own, shown as comments.
TABLES = ("stations", "peers", "models", "windows", "endpoints", "groups", "dentists", "clients")
TABLES += ("partners", "prescribers")


def test_defaults_are_a_silent_sqlite_node() -> None:
    config = read_config(environment={})
    assert config.node.mode is Mode.ASSIST
    assert config.database_url.startswith("sqlite:///")
    assert config.dicom.study_quiet_s == 30


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "bitewing.toml"
    file.write_text('[dicom]\nport = 1\nae_title = "FILE"\n[web]\nport = 2\n')
    environment = {"BITEWING_DICOM_PORT": "3", "BITEWING_ANALYSIS_DISABLED_MODELS": "a,b"}
    config = read_config(file, environment, {"web": {"port": 4}})
    assert (config.dicom.port, config.dicom.ae_title, config.web.port) == (3, "FILE", 4)
    assert config.analysis.disabled_models == ("a", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[dicom]\nprot = 1", "unknown key dicom.prot (did you mean port?)"),
        ("[dicm]\nport = 1", "unknown key dicm (did you mean dicom?)"),
        ("[dicom]\nport = 99999", "dicom.port"),
        ('[node]\ntime_zone = "Mars/Base"', "unknown IANA time zone"),
        ("not toml", "not valid TOML"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bitewing.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file, environment={})
    assert words in str(caught.value)


def test_unknown_variable_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean BITEWING_DICOM_PORT"):
        read_config(environment={"BITEWING_DICOM_PROT": "1"})


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        read_config(tmp_path / "absent.toml", environment={})


def test_secrets_do_not_show() -> None:
    secret = "hunter2-secret"
    config = read_config(environment={"BITEWING_PMS_CUSTOMER_KEY": secret})
    assert secret not in repr(config)
    with pytest.raises(ConfigError) as caught:
        read_config(environment={}, overrides={"pms": {"customer_key": [secret]}})
    assert secret not in str(caught.value)


def test_example_file_shows_every_key_with_its_default() -> None:
    text = (DOCS / "bitewing.example.toml").read_text()
    example = read_config(DOCS / "bitewing.example.toml", environment={})
    assert example == read_config(environment={})
    stated = tomllib.loads(text)
    for section, field in Config.model_fields.items():
        for key in field.annotation.model_fields:
            assert key in stated[section] or key in TABLES, f"{section}.{key}"
    for model in (StationSection, PeerSection):
        for key in model.model_fields:
            assert f"# {key} =" in text, key


def test_every_key_stands_in_the_table() -> None:
    text = (DOCS / "configuration.md").read_text()
    sections = [field.annotation for field in Config.model_fields.values()]
    for model in (*sections, StationSection, PeerSection):
        for key in model.model_fields:
            assert f"`{key}`" in text, key


def test_models_of_other_folders_are_read(tmp_path: Path) -> None:
    file = tmp_path / "bitewing.toml"
    file.write_text('[[analysis.models]]\ntask = "intraoral"\ndir = "/srv/x"\nrole = "shadow"\n')
    (model,) = read_config(file, environment={}).analysis.models
    assert (model.task, model.dir, model.version, model.role) == (
        "intraoral",
        Path("/srv/x"),
        "",
        "shadow",
    )
    file.write_text('[[analysis.models]]\ntask = "intraoral"\ndir = "/srv/x"\nrole = "boss"\n')
    with pytest.raises(ConfigError, match="role"):
        read_config(file, environment={})
