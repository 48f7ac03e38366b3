"""Messages to send, and small servers and waits that the provider tests share."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from comms.platform.settings import ProviderSettings, Secret, Settings, load
from consumers.registry import build
from consumers.sdk.provider import Provider
from schemas.ids import new_message_id
from schemas.messages import EmailMessage, Message, PushMessage, SmsMessage, VoiceMessage
from schemas.vocabulary import Channel

SECRET = Secret("what the stub and we share")
CREATED = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def message(channel: Channel, to: str) -> Message:
    """A plain message to `to`."""
    match channel:
        case Channel.SMS:
            return SmsMessage(
                id=new_message_id(), tenant="acme", created_at=CREATED, to=to, body="Hello"
            )
        case Channel.EMAIL:
            return email(to)
        case Channel.PUSH:
            return PushMessage(
                id=new_message_id(),
                tenant="acme",
                created_at=CREATED,
                tokens=(to,),
                title="Hello",
                body="You",
            )
        case Channel.VOICE:
            return VoiceMessage(
                id=new_message_id(), tenant="acme", created_at=CREATED, to=to, text="Hello"
            )


def email(to: str, **more: Any) -> EmailMessage:
    """A mail to `to`, with what else a test wants in it."""
    values = {"subject": "Hello", "text": "You there\n", **more}
    return EmailMessage(id=new_message_id(), tenant="acme", created_at=CREATED, to=to, **values)


def settings_with(
    channel: Channel,
    table: Mapping[str, object],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 15.0,
) -> Settings:
    """Settings whose one provider of `channel` is `table`."""
    settings = load({"COMMS_DATA_DIR": "no-such-folder", **(environment or {})})
    options = {name: value for name, value in table.items() if name not in ("name", "type")}
    name = str(table["name"])
    provider = ProviderSettings(name=name, type=str(table.get("type", name)), options=options)
    own = settings.channels[channel].model_copy(
        update={"providers": (provider,), "call_timeout_seconds": timeout_seconds}
    )
    return replace(settings, channels={**settings.channels, channel: own})


def only_provider(settings: Settings, channel: Channel) -> Provider[Any]:
    """The adapter of the one provider of `channel`."""
    return build(channel, settings.channels[channel].providers[0], settings)


def closed_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for `condition`; the test fails when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of ours
            await asyncio.sleep(0.01)
