"""`comms suppressions`: who must not be reached, listed and changed through the API."""

from typing import Annotated, Any

import typer

from comms.cli.output import AsJson, console, moment, notes, plain, print_json, table
from comms.client import ApiClient, connect
from comms.platform.settings import load
from schemas.vocabulary import Channel, SuppressionReason

PATH = "/v1/suppressions"
PAGE = 1000  # what the API gives at once, at most

ChannelName = Annotated[Channel, typer.Argument(help="sms, email, push or voice.")]
Recipient = Annotated[str, typer.Argument(help="Number, address or token, as in a message's `to`.")]


def show(
    channel: Annotated[Channel | None, typer.Option()] = None,
    recipient: Annotated[str | None, typer.Option(help="Number, address or token.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    *,
    cursor: Annotated[str | None, typer.Option(help="Where a former list ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recipients that are not reached, by channel."""
    query = {"channel": channel, "recipient": recipient}
    with connect(load()) as client:
        items, further = _pages(client, query, limit=limit, cursor=cursor)
    if as_json:
        print_json({"items": items, "next_cursor": further})
        return
    shown = table("recipient", "channel", "reason", "since", "by message")
    for item in items:
        recipient_, why = plain(item["recipient"]), plain(item["reason"])
        since, message = moment(item["created_at"]), plain(item["message_id"])
        shown.add_row(recipient_, item["channel"], why, since, message)
    console().print(shown)
    if further:
        notes().print(plain(f"There are more: --limit, or --cursor {further}"))


def add(
    channel: ChannelName,
    recipient: Recipient,
    reason: Annotated[SuppressionReason, typer.Option()] = SuppressionReason.MANUAL,
    as_json: AsJson = False,
) -> None:
    """Reach a recipient no more; a later reason replaces an earlier one."""
    wish = {"channel": channel, "recipient": recipient, "reason": reason}
    with connect(load()) as client:
        entry = client.post(PATH, wish).body
    if as_json:
        print_json(entry)
    else:
        console().print(plain(f"{entry['recipient']} is not reached by {channel}: {reason}"))


def remove(channel: ChannelName, recipient: Recipient, as_json: AsJson = False) -> None:
    """Reach a recipient again. Removing one that is not on the list changes nothing."""
    with connect(load()) as client:
        client.delete(PATH, {"channel": channel, "recipient": recipient})
    if as_json:
        print_json({"channel": channel, "recipient": recipient, "suppressed": False})
    else:
        console().print(plain(f"{recipient} may be reached by {channel}"))


def _pages(
    client: ApiClient, query: dict[str, str | None], *, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    items: list[Any] = []
    while True:
        wanted = str(min(PAGE, limit - len(items)))
        page = client.get(PATH, {**query, "limit": wanted, "cursor": cursor})
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or len(items) >= limit:
            return items, cursor
