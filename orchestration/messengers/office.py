"""The ways that this practice has configured."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from node.config import Config
from node.engine_key import engine_key_of
from orchestration.messengers.chat import ChatMessenger, ChatSettings
from orchestration.messengers.links import LinkKey
from orchestration.messengers.message import Channel, Messenger
from orchestration.messengers.sms import SmsMessenger, SmsSettings
from orchestration.messengers.smtp import SmtpMessenger, SmtpSettings

#: Where a provider's calls back come in, below ``public_url`` (`orchestration.webhooks`).
SMS_PATH = "/hooks/sms"


def channels(config: Config) -> frozenset[Channel]:
    """Tell which ways to patients are configured."""
    section = config.messengers
    found = {Channel.EMAIL: section.smtp_host, Channel.SMS: section.sms_url}
    return frozenset(channel for channel, address in found.items() if address)


def open_messenger(config: Config, channel: Channel) -> Messenger:
    """Open one way. Raises ConfigError when it is not configured, or cannot be right."""
    section = config.messengers
    match channel:
        case Channel.EMAIL:
            return SmtpMessenger(
                SmtpSettings(
                    host=section.smtp_host,
                    port=section.smtp_port,
                    sender=section.mail_from,
                    reply_to=section.mail_reply_to,
                    security=section.smtp_security,
                    user=section.smtp_user,
                    password=section.smtp_password.get_secret_value(),
                    ca_file=Path(section.smtp_ca_file) if section.smtp_ca_file else None,
                    reach=config.outgoing.reach("messengers", takes_near=True),
                )
            )
        case Channel.SMS:
            return SmsMessenger(
                SmsSettings(
                    url=section.sms_url,
                    key=section.sms_key.get_secret_value(),
                    sender=section.sms_from,
                    callback_url=public(config, SMS_PATH),
                    hosts=section.allowed_hosts,
                    reach=config.outgoing.reach("messengers"),
                )
            )
        case Channel.CHAT:
            return ChatMessenger(
                ChatSettings(
                    section.chat_url.get_secret_value(),
                    section.allowed_hosts,
                    reach=config.outgoing.reach("messengers"),
                )
            )
        case _:
            assert_never(channel)


def link_key(config: Config) -> LinkKey:
    """Open the key of this node's signed links."""
    return LinkKey(engine_key_of(config), config.node.location_id)


def public(config: Config, path: str) -> str:
    """Give the address of a path of this node as others reach it; empty when there is none."""
    base = config.messengers.public_url.rstrip("/")
    return f"{base}{path}" if base else ""
