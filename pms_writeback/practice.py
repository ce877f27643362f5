"""The practice's own system: which adapter the configuration asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from node.config import Config
from node.errors import ConfigError
from pms_writeback.pms import OfficeTime, Pms

if TYPE_CHECKING:
    from pms_writeback.sftp import SftpFolder


def open_pms(config: Config) -> Pms | None:
    """Open the configured practice-management system; None when it is switched off.

    Nothing is sent yet. Raises ConfigError when its address or keys cannot be right.
    """
    if config.pms.clinics and config.pms.kind not in ("none", "open_dental"):
        raise ConfigError("pms.clinics is for Open Dental only; remove it")
    match config.pms.kind:
        case "none":
            return None
        case "open_dental":
            return _open_dental(config)
        case "dentrix" | "eaglesoft":
            return _bridged(config)
        case "curve":
            return _curve(config)
        case _:
            assert_never(config.pms.kind)


def _open_dental(config: Config) -> Pms:
    from pms_writeback.opendental import OpenDental, OpenDentalSettings  # httpx only where used
    from pms_writeback.opendental.ways import Mode, usual_way

    section = config.pms
    if bool(section.base_url) == bool(section.endpoints):
        raise ConfigError(
            "Open Dental needs either pms.base_url, the address of its API, or [[pms.endpoints]]"
        )
    ways = tuple(usual_way(Mode(each.mode), each.url) for each in section.endpoints)
    return OpenDental(
        OpenDentalSettings(
            base_url=section.base_url,
            developer_key=section.developer_key.get_secret_value(),
            customer_key=section.customer_key.get_secret_value(),
            time_zone=config.node.time_zone,
            task_list=section.task_list,
            task_user=section.task_user,
            min_interval_s=section.min_interval_s,
            burst=section.burst,
            page_size=section.page_size,
            ways=ways,
            reach=config.outgoing.reach("pms", takes_near=True),
        ),
        folder=sftp_folder(config),
    )


def sftp_folder(config: Config) -> SftpFolder | None:
    """Give the folder by which documents go and come; None where none is configured."""
    section = config.pms
    if not section.sftp_host:
        return None
    from pms_writeback.sftp import SftpFolder, SftpSettings  # an SSH library only where used

    return SftpFolder(
        SftpSettings(
            host=section.sftp_host,
            port=section.sftp_port,
            user=section.sftp_user,
            password=section.sftp_password.get_secret_value(),
            host_key=section.sftp_host_key,
            folder=section.sftp_folder,
            office_host=section.sftp_office_host,
            reach=config.outgoing.reach("pms", takes_near=True),
        )
    )


def _bridged(config: Config) -> Pms:
    from pms_writeback.bridge.desk import Desk
    from pms_writeback.bridge.office import BridgedPms
    from pms_writeback.dentrix import DentrixShapes
    from pms_writeback.eaglesoft import EaglesoftShapes

    office = OfficeTime(config.node.time_zone)
    is_dentrix = config.pms.kind == "dentrix"
    shapes = DentrixShapes(office) if is_dentrix else EaglesoftShapes(office)
    return BridgedPms(shapes, Desk(), office, config.bridge.stale_s)


def _curve(config: Config) -> Pms:
    from pms_writeback.curve import Curve, NexHealthSettings

    section = config.pms
    settings = NexHealthSettings(
        api_key=section.customer_key.get_secret_value(),
        subdomain=section.subdomain,
        location=section.partner_location,
        time_zone=config.node.time_zone,
        reach=config.outgoing.reach("pms"),
    )
    return Curve(replace(settings, base_url=section.base_url) if section.base_url else settings)
