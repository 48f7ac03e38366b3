"""`comms show`, `comms find` and `comms channels`: messages and the state of the channels.

`comms.cli.app` registers these commands. They read the API and print tables.
"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from comms.cli.output import (
    AsJson,
    coloured,
    console,
    local_time,
    notes,
    plain,
    print_json,
    table,
)
from comms.cli.paging import fetch_pages
from comms.cli.times import parse_past
from comms.client import connect
from comms.platform.settings import load
from schemas.vocabulary import Channel, Reason, Status

PAGE_SIZE = 200  # the most that the API returns at once

_TIMES = frozenset({"created_at", "updated_at", "send_at", "expires_at", "sent_at", "finished_at"})


def show(
    message_id: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id.")],
    as_json: AsJson = False,
) -> None:
    """Show one message: its status, every attempt, and the provider's answers."""
    with connect(load()) as client:
        message = client.get(f"/v1/messages/{message_id}")
    if as_json:
        print_json(message)
        return
    out = console()
    fields = table("", "")
    fields.show_header = False
    for name, value in message.items():
        if name not in {"events", "status", "reason"} and value not in (None, "", {}):
            text = local_time(value) if name in _TIMES else value
            fields.add_row(name, plain(_format_pairs(text) if isinstance(text, dict) else text))
    out.print(coloured(message["status"], beside=message["reason"]))
    out.print(fields)
    out.print()
    out.print(_event_table(message["events"]))


def find(
    *,
    customer: Annotated[str | None, typer.Option(help="Your own id of the recipient.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Number, address or device token.")] = None,
    channel: Annotated[Channel | None, typer.Option(help="Channel.")] = None,
    status: Annotated[Status | None, typer.Option(help="Current status.")] = None,
    reason: Annotated[
        Reason | None, typer.Option(metavar="REASON", help="Reason of the current status.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Name of the provider that sent it.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Name of the workflow that sent it.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Created no earlier: 2h (ago), or RFC 3339.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Created before: 2h (ago), or RFC 3339.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of messages.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="Continue after a former search; it printed the cursor.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search for messages, newest first."""
    query = {
        "customer_id": customer,
        "recipient": recipient,
        "channel": channel,
        "status": status,
        "reason": reason,
        "provider": provider,
        "workflow": workflow,
        "since": parse_past(since, "--since") if since else None,
        "until": parse_past(until, "--until") if until else None,
    }
    with connect(load()) as client:
        items, next_cursor = fetch_pages(
            client, "/v1/messages", query, limit=limit, cursor=cursor, page_size=PAGE_SIZE
        )
    if as_json:
        print_json({"items": items, "next_cursor": next_cursor})
        return
    console().print(_message_table(items))
    if next_cursor:
        notes().print(plain(f"There are more: use --limit, or --cursor {next_cursor}"))


def channels(as_json: AsJson = False) -> None:
    """Show whether each channel and provider is ready, and how that is known."""
    with connect(load()) as client:
        document = client.get("/v1/channels")
    if as_json:
        print_json(document)
        return
    lines = table("channel", "readiness", "consumers", "in flight", "lag", "last success", "detail")
    for channel in document["items"]:
        lag = f"{channel['lag_messages']} ({channel['lag_seconds']:g} s)"
        lines.add_row(
            channel["channel"],
            coloured(channel["readiness"]),
            str(channel["consumers"]),
            str(channel["in_flight"]),
            lag,
            local_time(channel["last_success"]),
            _detail(channel),
        )
        for provider in channel["providers"]:
            success = local_time(provider["last_success"])
            ready = coloured(provider["readiness"])
            weight = f"weight {provider['weight']}"
            name = f"  {provider['name']}"
            lines.add_row(name, ready, weight, "", "", success, _detail(provider))
    console().print(lines)


def _message_table(items: list[Any]) -> Any:
    lines = table(
        *("id", "created", "channel", "to", "status", "provider", "attempts", "customer"),
        "workflow",
    )
    for item in items:
        lines.add_row(
            item["id"],
            local_time(item["created_at"]),
            item["channel"],
            plain(item["to"]),
            coloured(item["status"], beside=item["reason"]),
            plain(item["provider"]),
            str(item["attempts"]),
            plain(item["customer_id"]),
            plain(item["workflow"]),
        )
    return lines


def _event_table(events: list[Any]) -> Any:
    lines = table("time", "attempt", "status", "provider", "code", "detail", "response")
    for event in events:
        lines.add_row(
            local_time(event["occurred_at"]),
            str(event["attempt"] or ""),
            coloured(event["status"], beside=event["reason"]),
            plain(event["provider"]),
            plain(event["code"]),
            plain(event["detail"]),
            plain(event["response"]),
        )
    return lines


def _detail(state: Mapping[str, Any]) -> Any:
    error = state["last_error"]
    evidence = state.get("evidence") or state["problem"]  # a channel has no evidence of its own
    parts = [evidence] if evidence else []
    if error:
        cause = ": ".join(filter(None, (error["reason"], error["code"], error["detail"])))
        parts.append(f"last error {local_time(error['at'])} {cause}")
    if unknown := state.get("unknown_codes"):
        parts.append(f"unknown codes: {', '.join(unknown)}")
    return plain("; ".join(parts))


def _format_pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
