"""The options of `comms send`, named as the API names the fields."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.vocabulary import Channel, OnDoubt, Platform, Priority

_ALL, _MAIL, _PUSH, _VOICE = "Every channel", "E-mail", "Push", "Voice"
_FILE = "File"

ChannelName = Annotated[Channel, typer.Argument(help="sms, email, push or voice.")]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        help="Number, address or device token; push takes several, or a Web Push subscription"
        " as JSON.",
    ),
]
Body = Annotated[str | None, typer.Option("--body", help="Text of an SMS or a notification.")]
Sender = Annotated[str | None, typer.Option("--from", help="Sender; else the provider's own.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Idempotency key: the same key is one message for ever. With --file: a name of this"
        " sending; under another name the same rows are sent again.",
        rich_help_panel=_ALL,
    ),
]
Customer = Annotated[
    str | None, typer.Option("--customer", help="Your id of the person.", rich_help_panel=_ALL)
]
Workflow = Annotated[
    str | None, typer.Option("--workflow", help="What asks for it.", rich_help_panel=_ALL)
]
PriorityName = Annotated[Priority | None, typer.Option("--priority", rich_help_panel=_ALL)]
SendAt = Annotated[
    str | None,
    typer.Option("--send-at", help="Not before: +30m, or RFC 3339.", rich_help_panel=_ALL),
]
ExpiresAt = Annotated[
    str | None,
    typer.Option("--expires-at", help="Not after: +2h, or RFC 3339.", rich_help_panel=_ALL),
]
InDoubt = Annotated[
    OnDoubt | None,
    typer.Option("--on-doubt", help="When an answer is lost.", rich_help_panel=_ALL),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="NAME=VALUE", rich_help_panel=_ALL),
]
Bypass = Annotated[
    bool | None,
    typer.Option(
        "--bypass-suppression",
        help="Send even to somebody on the suppression list; for what law requires.",
        rich_help_panel=_ALL,
    ),
]
Test = Annotated[
    bool,
    typer.Option(
        "--test",
        help="Into a provider's own test mode: checked and answered, and nobody is reached.",
        rich_help_panel=_ALL,
    ),
]
Subject = Annotated[str | None, typer.Option("--subject", rich_help_panel=_MAIL)]
TextOption = Annotated[
    str | None, typer.Option("--text", help="Text of an e-mail, or what a call speaks.")
]
Html = Annotated[str | None, typer.Option("--html", rich_help_panel=_MAIL)]
Cc = Annotated[list[str] | None, typer.Option("--cc", rich_help_panel=_MAIL)]
Bcc = Annotated[list[str] | None, typer.Option("--bcc", rich_help_panel=_MAIL)]
ReplyTo = Annotated[str | None, typer.Option("--reply-to", rich_help_panel=_MAIL)]
Attach = Annotated[
    list[Path] | None, typer.Option("--attach", help="A file.", rich_help_panel=_MAIL)
]
Headers = Annotated[
    list[str] | None, typer.Option("--header", metavar="NAME=VALUE", rich_help_panel=_MAIL)
]
UnsubscribeUrl = Annotated[
    str | None,
    typer.Option(
        "--unsubscribe-url",
        help="An https address that takes the recipient off the list with one POST.",
        rich_help_panel=_MAIL,
    ),
]
Title = Annotated[str | None, typer.Option("--title", rich_help_panel=_PUSH)]
PlatformName = Annotated[Platform | None, typer.Option("--platform", rich_help_panel=_PUSH)]
Data = Annotated[
    list[str] | None, typer.Option("--data", metavar="NAME=VALUE", rich_help_panel=_PUSH)
]
Badge = Annotated[int | None, typer.Option("--badge", rich_help_panel=_PUSH)]
CollapseKey = Annotated[str | None, typer.Option("--collapse-key", rich_help_panel=_PUSH)]
Ttl = Annotated[int | None, typer.Option("--ttl", help="Seconds.", rich_help_panel=_PUSH)]
AudioUrl = Annotated[str | None, typer.Option("--audio-url", rich_help_panel=_VOICE)]
Language = Annotated[str | None, typer.Option("--language", rich_help_panel=_VOICE)]
Voice = Annotated[str | None, typer.Option("--voice", rich_help_panel=_VOICE)]
AlreadySettled = Annotated[int | None, typer.Option("--repeat", rich_help_panel=_VOICE)]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="Many messages: a .csv with field names as its columns, or a .jsonl with a body a"
        " line. Other options fill in what a row leaves out.",
        rich_help_panel=_FILE,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it to its final status.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds --wait waits.", min=0.0)]
