"""`comms send`: one message from options, or many from a file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from comms.cli import options as o
from comms.cli.bulk import Tally, send_rows
from comms.cli.errors import FAILED, STILL_OPEN, CommandError
from comms.cli.fields import Content, attachment, pairs, recipient
from comms.cli.follow import follow
from comms.cli.output import AsJson, coloured, console, moment, notes, plain, print_json
from comms.cli.rows import BadRow, Keys, read
from comms.cli.times import instant
from comms.client import ApiClient, connect
from comms.platform.settings import load
from schemas.segments import segments
from schemas.vocabulary import Channel, Mode

_NOT_FIELDS = frozenset({"channel", "file", "test", "wait", "timeout", "as_json"})
_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "send_at": instant,
    "expires_at": instant,
    "metadata": lambda given: pairs("--metadata", given),
    "headers": lambda given: pairs("--header", given),
    "data": lambda given: pairs("--data", given),
    "attachments": lambda given: [attachment(Path(path)) for path in given],
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
    repeat: o.AlreadySettled = None,
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
    """Send one message, or a file of them.

    With --wait, exit 0: delivered, or sent and no receipt for 10 s.

    Exit 1: failed, cancelled or unknown. Exit 3: still open after --timeout.
    """
    content = content_of(channel, context.params)
    if file is not None:
        if wait or to:
            raise typer.BadParameter("--file goes with neither --to nor --wait")
        _send_file(file, channel, content, as_json=as_json)
        return
    if not to:
        raise typer.BadParameter("give --to, or --file")
    if channel is Channel.SMS and body is not None and not as_json:
        _say_segments(body)
    with connect(load()) as client:
        answer = client.post("/v1/messages", content)
        if wait:
            _follow(client, answer.body["id"], seconds=timeout, as_json=as_json)
        elif as_json:
            print_json(answer.body)
        else:
            known = "known already" if answer.status == 200 else ""
            console().print(plain(answer.body["id"]), coloured(answer.body["status"], beside=known))


def _say_segments(body: str) -> None:
    """What a text will be billed as, where that is more than one; on stderr."""
    found = segments(body)
    if found.count > 1:
        notes().print(f"comms: a text of {found.count} parts ({found.alphabet})")


def content_of(channel: Channel, parameters: Mapping[str, Any]) -> Content:
    """The body that the options ask for; what was not given is left out."""
    content: Content = {"channel": channel.value}
    if parameters.get("test"):
        content["mode"] = Mode.TEST.value
    for name, value in parameters.items():
        if name in _NOT_FIELDS or value is None or value in ([], ()):
            continue
        field = "from" if name == "sender" else name
        if name == "to":
            content[field] = recipient(channel, list(value))
        else:
            content[field] = _CONVERTED.get(name, lambda given: given)(value)
    return content


def _follow(client: ApiClient, message_id: str, *, seconds: float, as_json: bool) -> None:
    out = console()

    def show(event: Mapping[str, Any]) -> None:
        if not as_json:
            said = " ".join(filter(None, (event["provider"], event["code"], event["detail"])))
            status = coloured(event["status"], beside=event["reason"])
            out.print(moment(event["occurred_at"]), status, plain(said), style=None)

    if not as_json:
        out.print(plain(message_id))
    ended = follow(client, message_id, seconds=seconds, on_event=show)
    if as_json:
        print_json(ended.message)
    if ended.code == STILL_OPEN:
        notes().print(f"comms: still {ended.message['status']} after {seconds:g} s")
    if ended.code:
        raise typer.Exit(ended.code)


def _send_file(path: Path, channel: Channel, defaults: Content, *, as_json: bool) -> None:
    name = defaults.pop("idempotency_key", None)
    tally = Tally()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    with connect(load()) as client, Keys(name) as keys, _bar() as bar:
        task = bar.add_task(path.name, total=size)

        def on_bad(row: BadRow) -> None:
            bar.console.print(Text(f"{path}:{row.line}: {plain(row.problem)}"))

        rows = read(
            path,
            channel,
            defaults=defaults,
            keys=keys,
            progress=lambda count: bar.advance(task, count),
        )
        try:
            send_rows(client, rows, on_bad=on_bad, tally=tally)
        finally:
            bar.stop()
            _sum_up(tally, as_json=as_json)
    if tally.bad_count:
        raise typer.Exit(FAILED)


def _sum_up(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        rows = [asdict(row) for row in tally.bad]
        counts = {"accepted": tally.accepted, "known": tally.known, "bad": tally.bad_count}
        print_json({**counts, "bad_rows": rows})
        return
    said = f"{tally.accepted} accepted"
    if tally.known:
        said += f", {tally.known} known already"
    if tally.bad_count:
        said += f", {tally.bad_count} bad"
    console().print(said)


def _bar() -> Progress:
    out = notes()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=out,
        disable=not out.is_terminal,
        transient=True,
    )
