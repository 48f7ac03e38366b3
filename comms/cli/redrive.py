"""`comms resend` and `comms resolve`: what people do about messages that ended badly, or unknown.

A run goes through `POST /v1/resends` a page at a time, at a bounded pace. Its nonce is printed
before anything is asked: a run that was interrupted, run again with it, asks for nothing twice.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from comms.cli.bulk import WAITS
from comms.cli.errors import FAILED, CommandError
from comms.cli.output import AsJson, coloured, console, moment, notes, plain, print_json, table
from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError, connect
from comms.platform.settings import load

PATH = "/v1/resends"
PAGE = 100  # messages asked for at once, at most
_SAID = 20  # refusals that are printed one by one

Sleep = Callable[[float], None]


class As(StrEnum):
    """How what is unknown is settled."""

    SENT = "sent"
    FAILED = "failed"
    RESEND = "resend"


@dataclass(slots=True)
class Tally:
    """What became of a run's messages."""

    results: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)

    def add(self, item: Any) -> None:
        """Count one message's answer."""
        self.results[item["result"]] += 1
        if item["problem"]:
            self.refused.append({"id": item["id"], "problem": item["problem"]})


def resend(
    *,
    where: Annotated[
        str,
        typer.Option(
            help="Which messages, as SQL would say it: \"status = 'failed' and reason ="
            " 'provider_error' and created_at > '2026-01-31'\"."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    nonce: Annotated[
        UUID | None, typer.Option(help="Of a run that was interrupted, to go on with it.")
    ] = None,
    rate: Annotated[int, typer.Option(min=1, help="Messages a second, at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Send messages again that have ended: another attempt of each."""
    with connect(load()) as client:
        preview = client.post(PATH, {"where": where, "dry_run": True}).body
        if not as_json:
            _show(preview)
        elif dry_run:
            print_json(preview)
        if dry_run or not preview["count"]:
            if as_json and not dry_run:
                print_json(_document(nonce, Tally()))
            return
        _ask(preview["count"], yes=yes)
        run = nonce or uuid4()
        notes().print(plain(f"If this is interrupted, go on with --nonce {run}"))
        _run(client, where, run, rate=rate, count=preview["count"], as_json=as_json)


def resolve(
    message_id: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id.")],
    as_: Annotated[As, typer.Option("--as", help="It was sent, it was not, or: send it again.")],
    as_json: AsJson = False,
) -> None:
    """Settle a message whose call was made and whose answer was lost."""
    with connect(load()) as client:
        body = client.post(f"/v1/messages/{message_id}/resolve", {"as": as_}).body
    if as_json:
        print_json(body)
    else:
        console().print(plain(message_id), coloured(body["status"], beside=body["reason"]))


def pages(
    client: ApiClient, where: str, run: UUID, *, rate: int, sleep: Sleep = time.sleep
) -> Iterator[list[Any]]:
    """What became of each message, page after page, no faster than `rate` messages a second.

    Raises:
        ClientError: the API is away, or refuses; the pages before are done.
    """
    body: dict[str, Any] = {"where": where, "nonce": str(run), "limit": min(PAGE, rate)}
    while True:
        began = time.monotonic()
        page = _answered(client, body, sleep)
        yield page["items"]
        if page["next_cursor"] is None:
            return
        body["cursor"] = page["next_cursor"]
        sleep(max(0.0, len(page["items"]) / rate - (time.monotonic() - began)))


def _answered(client: ApiClient, body: dict[str, Any], sleep: Sleep) -> Any:
    """A page asked for again is harmless: the nonces are the same."""
    for wait in WAITS:
        try:
            return client.post(PATH, body).body
        except ApiUnreachableError:
            sleep(wait)
        except ApiRefusedError as error:
            if not error.passing:
                raise
            sleep(wait)
    return client.post(PATH, body).body


def _run(client: ApiClient, where: str, run: UUID, *, rate: int, count: int, as_json: bool) -> None:
    tally = Tally()
    with _bar() as bar:
        task = bar.add_task("asked for", total=count)
        try:
            for items in pages(client, where, run, rate=rate):
                for item in items:
                    tally.add(item)
                bar.advance(task, len(items))
        finally:
            bar.stop()
            _sum_up(run, tally, as_json=as_json)
    if tally.refused:
        raise typer.Exit(FAILED)


def _ask(count: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError("nobody is there to ask; say --yes, or --dry-run to only look")
    if not typer.confirm(f"Send {count} again?", err=True):
        raise typer.Exit(FAILED)


def _show(preview: Any) -> None:
    out = console()
    groups = table("status", "messages")
    for group in preview["groups"]:
        groups.add_row(coloured(group["status"], beside=group["reason"]), str(group["count"]))
    first = table("id", "created", "channel", "to", "status", "tries")
    for item in preview["first"]:
        status = coloured(item["status"], beside=item["reason"])
        to, tries = plain(item["to"]), str(item["attempts"])
        first.add_row(item["id"], moment(item["created_at"]), item["channel"], to, status, tries)
    if not preview["count"]:
        out.print("No message matches.")
        return
    out.print(groups, "", first)
    if preview["count"] > len(preview["first"]):
        out.print(f"and {preview['count'] - len(preview['first'])} more")


def _sum_up(run: UUID, tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(run, tally))
        return
    out = notes()
    for one in tally.refused[:_SAID]:
        out.print(plain(f"{one['id']}: {one['problem']}"))
    said = f"{tally.results['queued']} sent again"
    if tally.results["known"]:
        said += f", {tally.results['known']} asked for already"
    if tally.refused:
        said += f", {len(tally.refused)} not sent again"
    console().print(said)


def _document(run: UUID | None, tally: Tally) -> dict[str, Any]:
    return {
        "nonce": None if run is None else str(run),
        "queued": tally.results["queued"],
        "known": tally.results["known"],
        "refused": tally.refused,
    }


def _bar() -> Progress:
    out = notes()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out,
        disable=not out.is_terminal,
        transient=True,
    )
