"""The options of `comms send`, named like the fields of the API."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.vocabulary import Channel, OnDoubt, Platform, Priority

_ALL, _EMAIL, _PUSH, _VOICE = "Every channel", "E-mail", "Push", "Voice"
_FILE = "File"

ChannelName = Annotated[Channel, typer.Argument(help="The channel to send over.")]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        help="Number, address or device token. Push accepts several, or a Web Push subscription"
        " as JSON.",
    ),
]
Body = Annotated[str | None, typer.Option("--body", help="Text of an SMS or a notification.")]
Sender = Annotated[
    str | None, typer.Option("--from", help="Sender. The provider's default if not given.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Idempotency key: a message with the same key is sent only once. With --file: a name"
        " for this run. The same rows are sent again only under another name.",
        rich_help_panel=_ALL,
    ),
]
Customer = Annotated[
    str | None,
    typer.Option("--customer", help="Your own id of the recipient.", rich_help_panel=_ALL),
]
Workflow = Annotated[
    str | None,
    typer.Option("--workflow", help="Name of the workflow that sends it.", rich_help_panel=_ALL),
]
PriorityName = Annotated[
    Priority | None,
    typer.Option("--priority", help="The lane it waits in.", rich_help_panel=_ALL),
]
SendAt = Annotated[
    str | None,
    typer.Option("--send-at", help="Send it no earlier: +30m, or RFC 3339.", rich_help_panel=_ALL),
]
ExpiresAt = Annotated[
    str | None,
    typer.Option("--expires-at", help="Send it no later: +2h, or RFC 3339.", rich_help_panel=_ALL),
]
InDoubt = Annotated[
    OnDoubt | None,
    typer.Option(
        "--on-doubt",
        help="What to do if a provider's answer is lost: send again, or hold as unknown.",
        rich_help_panel=_ALL,
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata",
        metavar="NAME=VALUE",
        help="Stored with the message. May be repeated.",
        rich_help_panel=_ALL,
    ),
]
Bypass = Annotated[
    bool | None,
    typer.Option(
        "--bypass-suppression",
        help="Send even to suppressed recipients. For messages that the law requires.",
        rich_help_panel=_ALL,
    ),
]
Test = Annotated[
    bool,
    typer.Option(
        "--test",
        help="Use the provider's test mode: it checks the message and delivers nothing.",
        rich_help_panel=_ALL,
    ),
]
Subject = Annotated[
    str | None, typer.Option("--subject", help="Subject line.", rich_help_panel=_EMAIL)
]
TextOption = Annotated[
    str | None, typer.Option("--text", help="Text of an e-mail, or the words of a call.")
]
Html = Annotated[str | None, typer.Option("--html", help="HTML body.", rich_help_panel=_EMAIL)]
Cc = Annotated[
    list[str] | None,
    typer.Option("--cc", help="Copy. May be repeated.", rich_help_panel=_EMAIL),
]
Bcc = Annotated[
    list[str] | None,
    typer.Option("--bcc", help="Blind copy. May be repeated.", rich_help_panel=_EMAIL),
]
ReplyTo = Annotated[
    str | None, typer.Option("--reply-to", help="Address for replies.", rich_help_panel=_EMAIL)
]
Attach = Annotated[
    list[Path] | None,
    typer.Option("--attach", help="A file. May be repeated.", rich_help_panel=_EMAIL),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="NAME=VALUE",
        help="A header field. May be repeated.",
        rich_help_panel=_EMAIL,
    ),
]
UnsubscribeUrl = Annotated[
    str | None,
    typer.Option(
        "--unsubscribe-url",
        help="An https address that unsubscribes the recipient with one POST.",
        rich_help_panel=_EMAIL,
    ),
]
Title = Annotated[
    str | None,
    typer.Option("--title", help="Title of the notification.", rich_help_panel=_PUSH),
]
PlatformName = Annotated[
    Platform | None,
    typer.Option("--platform", help="The platform of the token.", rich_help_panel=_PUSH),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=VALUE",
        help="Data for the app. May be repeated.",
        rich_help_panel=_PUSH,
    ),
]
Badge = Annotated[
    int | None,
    typer.Option("--badge", help="Number on the app's icon.", rich_help_panel=_PUSH),
]
CollapseKey = Annotated[
    str | None,
    typer.Option(
        "--collapse-key",
        help="A notification replaces an earlier one with the same key.",
        rich_help_panel=_PUSH,
    ),
]
Ttl = Annotated[
    int | None,
    typer.Option(
        "--ttl", help="Seconds to keep it for a device that is offline.", rich_help_panel=_PUSH
    ),
]
AudioUrl = Annotated[
    str | None,
    typer.Option(
        "--audio-url", help="A recording to play instead of --text.", rich_help_panel=_VOICE
    ),
]
Language = Annotated[
    str | None,
    typer.Option("--language", help="Language of the text, such as en-US.", rich_help_panel=_VOICE),
]
Voice = Annotated[
    str | None,
    typer.Option("--voice", help="The provider's name of a voice.", rich_help_panel=_VOICE),
]
Repeat = Annotated[
    int | None,
    typer.Option("--repeat", help="How often the text is spoken.", rich_help_panel=_VOICE),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="Send many messages: a .csv file whose columns are named like the fields, or a .jsonl"
        " file with one message a line. Other options apply to rows without that field.",
        rich_help_panel=_FILE,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the final status.")]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds that --wait waits at most.", min=0.0)
]
