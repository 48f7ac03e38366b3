"""`comms suppressions`: list, add and remove recipients that must not receive messages.

`comms.cli.app` registers these commands. They call `/v1/suppressions`.
"""

from typing import Annotated

import typer

from comms.cli.output import AsJson, console, local_time, notes, plain, print_json, table
from comms.cli.paging import fetch_pages
from comms.client import connect
from comms.platform.settings import load
from schemas.vocabulary import Channel, SuppressionReason

PATH = "/v1/suppressions"
PAGE_SIZE = 1000  # the most that the API returns at once

ChannelName = Annotated[Channel, typer.Argument(help="The channel.")]
Recipient = Annotated[
    str, typer.Argument(help="Number, address or device token, as in a message's `to`.")
]


def show(
    channel: Annotated[Channel | None, typer.Option(help="Only this channel.")] = None,
    recipient: Annotated[
        str | None, typer.Option(help="Only this number, address or device token.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of entries.")] = 50,
    *,
    cursor: Annotated[
        str | None, typer.Option(help="Continue after a former list; it printed the cursor.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List suppressed recipients."""
    query = {"channel": channel, "recipient": recipient}
    with connect(load()) as client:
        items, next_cursor = fetch_pages(
            client, PATH, query, limit=limit, cursor=cursor, page_size=PAGE_SIZE
        )
    if as_json:
        print_json({"items": items, "next_cursor": next_cursor})
        return
    lines = table("recipient", "channel", "reason", "since", "by message")
    for item in items:
        lines.add_row(
            plain(item["recipient"]),
            item["channel"],
            plain(item["reason"]),
            local_time(item["created_at"]),
            plain(item["message_id"]),
        )
    console().print(lines)
    if next_cursor:
        notes().print(plain(f"There are more: use --limit, or --cursor {next_cursor}"))


def add(
    channel: ChannelName,
    recipient: Recipient,
    reason: Annotated[SuppressionReason, typer.Option(help="Why.")] = SuppressionReason.MANUAL,
    as_json: AsJson = False,
) -> None:
    """Suppress a recipient. A later reason replaces an earlier one."""
    document = {"channel": channel, "recipient": recipient, "reason": reason}
    with connect(load()) as client:
        entry = client.post(PATH, document).body
    if as_json:
        print_json(entry)
    else:
        console().print(plain(f"{entry['recipient']} is suppressed for {channel}: {reason}"))


def remove(channel: ChannelName, recipient: Recipient, as_json: AsJson = False) -> None:
    """Stop suppressing a recipient. Nothing changes if it is not on the list."""
    with connect(load()) as client:
        client.delete(PATH, {"channel": channel, "recipient": recipient})
    if as_json:
        print_json({"channel": channel, "recipient": recipient, "suppressed": False})
    else:
        console().print(plain(f"{recipient} is not suppressed for {channel}"))
