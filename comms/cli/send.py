"""`comms send`: one message from options, or many from a file.

`comms.cli.app` registers the command. The options become the body of `POST /v1/messages`; with
`--file` they are the defaults of its rows, which go through `comms.cli.bulk`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.progress import DownloadColumn, TimeRemainingColumn
from rich.text import Text

from comms.cli import options as o
from comms.cli.bulk import Tally, send_rows
from comms.cli.errors import FAILED, INTERRUPTED, STILL_OPEN, CommandError
from comms.cli.fields import Content, parse_pairs, parse_recipients, read_attachment
from comms.cli.follow import follow
from comms.cli.interrupts import stop_after_request
from comms.cli.output import (
    AsJson,
    coloured,
    console,
    local_time,
    notes,
    plain,
    print_json,
    progress_bar,
)
from comms.cli.rows import BadRow, Keys, read
from comms.cli.times import parse_future
from comms.client import ApiClient, connect
from comms.platform.settings import load
from schemas.segments import segments
from schemas.vocabulary import Channel, Mode

_NOT_FIELDS = frozenset({"channel", "file", "test", "wait", "timeout", "as_json"})
_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "send_at": lambda text: parse_future(text, "--send-at"),
    "expires_at": lambda text: parse_future(text, "--expires-at"),
    "metadata": lambda values: parse_pairs("--metadata", values),
    "headers": lambda values: parse_pairs("--header", values),
    "data": lambda values: parse_pairs("--data", values),
    "attachments": lambda paths: [read_attachment(Path(path)) for path in paths],
}


def send(
    context: typer.Context,
    channel: o.ChannelName,
    *,
    to: o.To = None,
    body: o.Body = None,
    text: o.TextOption = None,
    sender: o.Sender = None,
    subject: o.Subject = None,
    html: o.Html = None,
    cc: o.Cc = None,
    bcc: o.Bcc = None,
    reply_to: o.ReplyTo = None,
    attachments: o.Attach = None,
    headers: o.Headers = None,
    unsubscribe_url: o.UnsubscribeUrl = None,
    title: o.Title = None,
    platform: o.PlatformName = None,
    data: o.Data = None,
    badge: o.Badge = None,
    collapse_key: o.CollapseKey = None,
    ttl: o.Ttl = None,
    audio_url: o.AudioUrl = None,
    language: o.Language = None,
    voice: o.Voice = None,
    repeat: o.Repeat = None,
    idempotency_key: o.Key = None,
    customer_id: o.Customer = None,
    workflow: o.Workflow = None,
    priority: o.PriorityName = None,
    send_at: o.SendAt = None,
    expires_at: o.ExpiresAt = None,
    on_doubt: o.InDoubt = None,
    metadata: o.Metadata = None,
    bypass_suppression: o.Bypass = None,
    test: o.Test = False,
    file: o.File = None,
    wait: o.Wait = False,
    timeout: o.Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Send one message, or many from a file.

    Exit codes with --wait: 0 if the message is delivered, or sent without a receipt for 10 s.

    1 if it failed, was cancelled or is unknown. 3 if it is not final after --timeout.
    """
    content = build_content(channel, context.params)
    if file is not None:
        if wait or to:
            raise typer.BadParameter("--file cannot be combined with --to or --wait")
        _send_file(file, channel, content, as_json=as_json)
        return
    if not to:
        raise typer.BadParameter("--to or --file is required")
    if channel is Channel.SMS and body is not None and not as_json:
        _note_segments(body)
    _send_one(content, wait_seconds=timeout if wait else None, as_json=as_json)


def _send_one(content: Content, *, wait_seconds: float | None, as_json: bool) -> None:
    with connect(load()) as client:
        answer = client.post("/v1/messages", content)
        if wait_seconds is not None:
            _follow(client, answer.body["id"], seconds=wait_seconds, as_json=as_json)
        elif as_json:
            print_json(answer.body)
        else:
            note = "already accepted" if answer.status == 200 else ""
            console().print(plain(answer.body["id"]), coloured(answer.body["status"], beside=note))


def _note_segments(body: str) -> None:
    """Print the number of segments on standard error if the text has several: each is billed."""
    text = segments(body)
    if text.count > 1:
        notes().print(f"comms: the text has {text.count} segments ({text.alphabet})")


def build_content(channel: Channel, parameters: Mapping[str, Any]) -> Content:
    """Build the body of a message from the options; options that were not given are left out."""
    content: Content = {"channel": channel.value}
    if parameters.get("test"):
        content["mode"] = Mode.TEST.value
    for name, value in parameters.items():
        if name in _NOT_FIELDS or value is None or value in ([], ()):
            continue
        field = "from" if name == "sender" else name
        if name == "to":
            content[field] = parse_recipients(channel, list(value))
        else:
            content[field] = _CONVERTERS.get(name, lambda unchanged: unchanged)(value)
    return content


def _follow(client: ApiClient, message_id: str, *, seconds: float, as_json: bool) -> None:
    out = console()

    def show(event: Mapping[str, Any]) -> None:
        if not as_json:
            answer = " ".join(filter(None, (event["provider"], event["code"], event["detail"])))
            status = coloured(event["status"], beside=event["reason"])
            out.print(local_time(event["occurred_at"]), status, plain(answer), style=None)

    if not as_json:
        out.print(plain(message_id))
    result = follow(client, message_id, seconds=seconds, on_event=show)
    if as_json:
        print_json(result.message)
    if result.code == STILL_OPEN:
        notes().print(f"comms: still {result.message['status']} after {seconds:g} s")
    if result.code:
        raise typer.Exit(result.code)


def _send_file(path: Path, channel: Channel, defaults: Content, *, as_json: bool) -> None:
    name = defaults.pop("idempotency_key", None)
    tally = Tally()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    bar = progress_bar(DownloadColumn(), TimeRemainingColumn())
    with connect(load()) as client, Keys(name) as keys, bar, stop_after_request() as stop:
        task = bar.add_task(path.name, total=size)

        def on_bad(row: BadRow) -> None:
            bar.console.print(Text(f"{path}:{row.line}: {plain(row.problem)}"))

        def sleep(seconds: float) -> None:
            if stop.wait(seconds):
                raise KeyboardInterrupt

        rows = read(
            path,
            channel,
            defaults=defaults,
            keys=keys,
            progress=lambda count: bar.advance(task, count),
        )
        try:
            send_rows(
                client, rows, on_bad=on_bad, tally=tally, should_stop=stop.is_set, sleep=sleep
            )
        except KeyboardInterrupt:
            stop.set()
        finally:
            bar.stop()
            _print_summary(tally, as_json=as_json)
    if stop.is_set():
        notes().print("comms: interrupted; run the same command again to continue")
        raise typer.Exit(INTERRUPTED)
    if tally.bad_count:
        raise typer.Exit(FAILED)


def _print_summary(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        rows = [asdict(row) for row in tally.bad]
        counts = {
            "accepted": tally.accepted,
            "known": tally.already_accepted,
            "bad": tally.bad_count,
        }
        print_json({**counts, "bad_rows": rows})
        return
    summary = f"{tally.accepted} accepted"
    if tally.already_accepted:
        summary += f", {tally.already_accepted} already accepted earlier"
    if tally.bad_count:
        summary += f", {tally.bad_count} rejected"
    console().print(summary)
