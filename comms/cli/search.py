"""`comms show`, `find` and `channels`: what became of messages, and whether they get out."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from comms.cli.output import (
    AsJson,
    coloured,
    console,
    moment,
    notes,
    plain,
    print_json,
    table,
)
from comms.cli.times import instant
from comms.client import ApiClient, connect
from comms.platform.settings import load
from schemas.vocabulary import Channel, Reason, Status

PAGE = 200  # what the API gives at once, at most

_TIMES = frozenset({"created_at", "updated_at", "send_at", "expires_at", "sent_at", "finished_at"})


def show(
    message_id: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id.")],
    as_json: AsJson = False,
) -> None:
    """One message: its status, every attempt, and what the provider said."""
    with connect(load()) as client:
        message = client.get(f"/v1/messages/{message_id}")
    if as_json:
        print_json(message)
        return
    out = console()
    facts = table("", "")
    facts.show_header = False
    for name, value in message.items():
        if name not in {"events", "status", "reason"} and value not in (None, "", {}):
            shown = moment(value) if name in _TIMES else value
            facts.add_row(name, plain(_pairs(shown) if isinstance(shown, dict) else shown))
    out.print(coloured(message["status"], beside=message["reason"]))
    out.print(facts)
    out.print()
    out.print(_timeline(message["events"]))


def find(
    *,
    customer: Annotated[str | None, typer.Option(help="Your id of the person.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Number, address or token.")] = None,
    channel: Annotated[Channel | None, typer.Option()] = None,
    status: Annotated[Status | None, typer.Option()] = None,
    reason: Annotated[Reason | None, typer.Option(metavar="REASON")] = None,
    provider: Annotated[str | None, typer.Option()] = None,
    workflow: Annotated[str | None, typer.Option()] = None,
    since: Annotated[str | None, typer.Option(help="2h (ago), or RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(help="2h (ago), or RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where a former search ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search messages, newest first."""
    query = {
        "customer_id": customer,
        "recipient": recipient,
        "channel": channel,
        "status": status,
        "reason": reason,
        "provider": provider,
        "workflow": workflow,
        "since": instant(since) if since else None,
        "until": instant(until) if until else None,
    }
    with connect(load()) as client:
        items, further = pages(client, query, limit=limit, cursor=cursor)
    if as_json:
        print_json({"items": items, "next_cursor": further})
        return
    console().print(_messages(items))
    if further:
        notes().print(plain(f"There are more: --limit, or --cursor {further}"))


def channels(as_json: AsJson = False) -> None:
    """Readiness of each channel and provider, with the evidence."""
    with connect(load()) as client:
        document = client.get("/v1/channels")
    if as_json:
        print_json(document)
        return
    shown = table("channel", "readiness", "consumers", "in flight", "lag", "last success", "said")
    for channel in document["items"]:
        lag = f"{channel['lag_messages']} ({channel['lag_seconds']:g} s)"
        shown.add_row(
            channel["channel"],
            coloured(channel["readiness"]),
            str(channel["consumers"]),
            str(channel["in_flight"]),
            lag,
            moment(channel["last_success"]),
            _evidence(channel),
        )
        for provider in channel["providers"]:
            success = moment(provider["last_success"])
            ready = coloured(provider["readiness"])
            weight = f"weight {provider['weight']}"
            name = f"  {provider['name']}"
            shown.add_row(name, ready, weight, "", "", success, _evidence(provider))
    console().print(shown)


def pages(
    client: ApiClient, query: Mapping[str, str | None], *, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """At most `limit` messages, and the cursor to the next ones if there are any."""
    items: list[Any] = []
    while True:
        wanted = str(min(PAGE, limit - len(items)))
        page = client.get("/v1/messages", {**query, "limit": wanted, "cursor": cursor})
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or len(items) >= limit:
            return items, cursor


def _messages(items: list[Any]) -> Any:
    shown = table("id", "created", "channel", "to", "status", "provider", "tries", "customer", "by")
    for item in items:
        shown.add_row(
            item["id"],
            moment(item["created_at"]),
            item["channel"],
            plain(item["to"]),
            coloured(item["status"], beside=item["reason"]),
            plain(item["provider"]),
            str(item["attempts"]),
            plain(item["customer_id"]),
            plain(item["workflow"]),
        )
    return shown


def _timeline(events: list[Any]) -> Any:
    shown = table("when", "try", "status", "provider", "code", "said", "answer")
    for event in events:
        shown.add_row(
            moment(event["occurred_at"]),
            str(event["attempt"] or ""),
            coloured(event["status"], beside=event["reason"]),
            plain(event["provider"]),
            plain(event["code"]),
            plain(event["detail"]),
            plain(event["response"]),
        )
    return shown


def _evidence(state: Mapping[str, Any]) -> Any:
    error = state["last_error"]
    found = state.get("evidence") or state["problem"]  # a channel has no evidence of its own
    said = [found] if found else []
    if error:
        words = ": ".join(filter(None, (error["reason"], error["code"], error["detail"])))
        said.append(f"last error {moment(error['at'])} {words}")
    if unknown := state.get("unknown_codes"):
        said.append(f"unknown codes: {', '.join(unknown)}")
    return plain("; ".join(said))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
