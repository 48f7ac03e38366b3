"""`comms resend` and `comms resolve`: send ended messages again, and settle unknown ones.

`comms.cli.app` registers these commands. A run of `comms resend` goes through `POST /v1/resends`
page by page, at a limited rate. Its id is printed before anything is sent; an interrupted run that
is started again with it sends nothing twice.
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
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from comms.cli.bulk import WAITS
from comms.cli.errors import FAILED, CommandError
from comms.cli.output import (
    AsJson,
    coloured,
    console,
    local_time,
    notes,
    plain,
    print_json,
    progress_bar,
    table,
)
from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError, connect
from comms.platform.settings import load

PATH = "/v1/resends"
PAGE_SIZE = 100  # the most messages in one request
_LISTED_REFUSALS = 20

Sleep = Callable[[float], object]


class Resolution(StrEnum):
    """How to settle a message whose status is unknown."""

    SENT = "sent"
    FAILED = "failed"
    RESEND = "resend"


@dataclass(slots=True)
class Tally:
    """The results of a run."""

    results: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)

    def add(self, items: list[Any]) -> None:
        """Count the API's answers for a page of messages."""
        for item in items:
            self.results[item["result"]] += 1
            if item["problem"]:
                self.refused.append({"id": item["id"], "problem": item["problem"]})


def resend(
    *,
    where: Annotated[
        str,
        typer.Option(
            help="A filter, written like an SQL condition: \"status = 'failed' and reason ="
            " 'provider_error' and created_at > '2026-01-31'\"."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the matching messages and send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    run_id: Annotated[
        UUID | None,
        typer.Option(help="Resume an interrupted run. Each run prints its id at the start."),
    ] = None,
    nonce: Annotated[
        UUID | None, typer.Option("--nonce", hidden=True, help="The former name of --run-id.")
    ] = None,
    rate: Annotated[int, typer.Option(min=1, help="The most messages per second.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Send messages that have ended again, with a new series of attempts."""
    if run_id and nonce:
        raise typer.BadParameter("--nonce is the former name of --run-id; give only one of them")
    with connect(load()) as client:
        preview = client.post(PATH, {"where": where, "dry_run": True}).body
        if not as_json:
            _print_preview(preview)
        elif dry_run:
            print_json(preview)
        if dry_run or not preview["count"]:
            if as_json and not dry_run:
                print_json(_to_document(run_id or nonce, Tally()))
            return
        _confirm(preview["count"], yes=yes)
        run = run_id or nonce or uuid4()
        notes().print(plain(f"Run {run}. To resume it after an interruption, add --run-id {run}"))
        _run(client, where, run, rate=rate, count=preview["count"], as_json=as_json)


def resolve(
    message_id: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id.")],
    as_: Annotated[
        Resolution,
        typer.Option(
            "--as", help="sent: the provider accepted it. failed: it did not. resend: try again."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Settle a message whose status is unknown, because the provider's answer was lost."""
    with connect(load()) as client:
        body = client.post(f"/v1/messages/{message_id}/resolve", {"as": as_}).body
    if as_json:
        print_json(body)
    else:
        console().print(plain(message_id), coloured(body["status"], beside=body["reason"]))


def resend_pages(
    client: ApiClient, where: str, run: UUID, *, rate: int, sleep: Sleep = time.sleep
) -> Iterator[list[Any]]:
    """Resend the matching messages page by page, at most `rate` messages per second.

    Yields:
        The API's answers for the messages of a page.

    Raises:
        ClientError: the API is unreachable or refuses; the pages before were sent.
    """
    body: dict[str, Any] = {"where": where, "nonce": str(run), "limit": min(PAGE_SIZE, rate)}
    while True:
        started = time.monotonic()
        page = _post_page(client, body, sleep)
        yield page["items"]
        if page["next_cursor"] is None:
            return
        body["cursor"] = page["next_cursor"]
        sleep(max(0.0, len(page["items"]) / rate - (time.monotonic() - started)))


def _post_page(client: ApiClient, body: dict[str, Any], sleep: Sleep) -> Any:
    """Post a page, and again if it fails: the run id makes a repetition safe."""
    for wait in WAITS:
        try:
            return client.post(PATH, body).body
        except ApiUnreachableError:
            sleep(wait)
        except ApiRefusedError as error:
            if not error.is_temporary:
                raise
            sleep(wait)
    return client.post(PATH, body).body


def _run(client: ApiClient, where: str, run: UUID, *, rate: int, count: int, as_json: bool) -> None:
    tally = Tally()
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("resending", total=count)
        try:
            for items in resend_pages(client, where, run, rate=rate):
                tally.add(items)
                bar.advance(task, len(items))
        finally:
            bar.stop()
            _print_summary(run, tally, as_json=as_json)
    if tally.refused:
        raise typer.Exit(FAILED)


def _confirm(count: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            "there is no terminal to ask for confirmation; add --yes to send, or --dry-run"
        )
    if not typer.confirm(f"Send {count} again?", err=True):
        raise typer.Exit(FAILED)


def _print_preview(preview: Any) -> None:
    out = console()
    groups = table("status", "messages")
    for group in preview["groups"]:
        groups.add_row(coloured(group["status"], beside=group["reason"]), str(group["count"]))
    first = table("id", "created", "channel", "to", "status", "attempts")
    for item in preview["first"]:
        first.add_row(
            item["id"],
            local_time(item["created_at"]),
            item["channel"],
            plain(item["to"]),
            coloured(item["status"], beside=item["reason"]),
            str(item["attempts"]),
        )
    if not preview["count"]:
        out.print("No message matches.")
        return
    out.print(groups, "", first)
    if preview["count"] > len(preview["first"]):
        out.print(f"and {preview['count'] - len(preview['first'])} more")


def _print_summary(run: UUID, tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print_json(_to_document(run, tally))
        return
    for refusal in tally.refused[:_LISTED_REFUSALS]:
        notes().print(plain(f"{refusal['id']}: {refusal['problem']}"))
    summary = f"{tally.results['queued']} sent again"
    if tally.results["known"]:
        summary += f", {tally.results['known']} already sent again by this run"
    if tally.refused:
        summary += f", {len(tally.refused)} not sent again"
    console().print(summary)


def _to_document(run: UUID | None, tally: Tally) -> dict[str, Any]:
    run_id = None if run is None else str(run)
    return {
        "run_id": run_id,
        "nonce": run_id,  # the name that version 0.1 printed
        "queued": tally.results["queued"],
        "known": tally.results["known"],
        "refused": tally.refused,
    }
