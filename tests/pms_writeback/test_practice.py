"""Which adapter the configuration asks for."""

from __future__ import annotations

import pytest

from node.config import read_config
from node.errors import ConfigError
from pms_writeback.practice import open_pms

KEYS = {"developer_key": "d", "customer_key": "c"}


def test_none_is_no_practice_system():
    assert open_pms(read_config(None, {})) is None


def test_the_configured_practice_answers(config):
    pms = open_pms(config)
    assert pms is not None
    assert pms.capabilities().product == "Open Dental"
    pms.close()


@pytest.mark.parametrize(
    "section",
    [
        {"kind": "open_dental"},
        {"kind": "open_dental", "base_url": "https://od.example/api/v1"},
        {"kind": "open_dental", "base_url": "http://od.example/api/v1", **KEYS},
        {"kind": "open_dental", "base_url": "od.example", **KEYS},
    ],
    ids=["no address", "no keys", "no TLS", "no scheme"],
)
def test_what_cannot_work_is_refused_at_the_start(section):
    with pytest.raises(ConfigError):
        open_pms(read_config(None, {}, {"pms": section}))
