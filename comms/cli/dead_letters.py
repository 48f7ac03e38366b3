"""`comms dead-letters`: list, show and replay the records that no consumer could process.

`comms.cli.app` registers these commands. The records are read directly from Kafka, without a
consumer group. Recipients and contents are shown only with `--content`.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn

from comms.cli.dead_letter_view import describe_record
from comms.cli.errors import CommandError
from comms.cli.output import (
    AsJson,
    console,
    local_time,
    notes,
    plain,
    print_json,
    progress_bar,
    table,
)
from comms.cli.times import parse_past
from comms.platform import dead_letters
from comms.platform.dead_letters import DeadLetter
from comms.platform.kafka import Broker
from comms.platform.registry import build_codec
from comms.platform.settings import load
from schemas.vocabulary import Channel, Reason


class Source(StrEnum):
    """Where a dead letter comes from: the topics of a channel, or the status topic."""

    SMS = Channel.SMS
    EMAIL = Channel.EMAIL
    PUSH = Channel.PUSH
    VOICE = Channel.VOICE
    STATUS = "status"


ChannelOption = Annotated[
    Source | None,
    typer.Option("--channel", help="Only of this channel; 'status' for status events."),
]
ReasonOption = Annotated[
    Reason | None, typer.Option("--reason", metavar="REASON", help="Only with this reason.")
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids that `list` shows.")]


def show_all(
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on: 2h (ago), or RFC 3339.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Show only so many of the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest last."""
    begin = datetime.fromisoformat(parse_past(since, "--since")) if since else None
    newest: deque[DeadLetter] = deque(maxlen=limit)
    count = 0
    for dead_letter in _dead_letters():
        if _matches(dead_letter, channel, reason) and (begin is None or dead_letter.at >= begin):
            newest.append(dead_letter)
            count += 1
    if as_json:
        print_json({"items": [_to_document(item) for item in newest], "count": count})
        return
    lines = table("id", "time", "channel", "reason", "from", "detail")
    for item in newest:
        lines.add_row(
            item.id,
            local_time(item.at.isoformat()),
            plain(item.channel),
            plain(item.reason),
            plain(_origin(item)),
            plain(item.detail),
        )
    console().print(lines)
    if count > limit:
        notes().print(f"There are {count - limit} older ones: use --limit")


def show(
    offset_or_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `list` shows.")],
    content: Annotated[
        bool, typer.Option("--content", help="Also show recipients and contents.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: where it comes from, what is wrong, and the fields of the record."""
    settings, wanted_id = load(), _complete_id(offset_or_id)
    match = next((pair for pair in _dead_letters_with_records() if pair[0].id == wanted_id), None)
    if match is None:
        raise CommandError(f"there is no dead letter {offset_or_id}")
    dead_letter, record = match
    details = describe_record(record, dead_letter.channel, build_codec(settings), content=content)
    document = _to_document(dead_letter) | details
    if as_json:
        print_json(document)
        return
    lines = table("", "")
    lines.show_header = False
    for name, value in document.items():
        for field, text in _flatten(name, value):
            lines.add_row(field, plain(text))
    console().print(lines)


def replay(
    ids: Ids = None,
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Replay all of them.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be replayed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish dead letters again, unchanged, into the topics they came from.

    A message that was already sent is not sent again. A record that still cannot be processed
    becomes a dead letter again.
    """
    has_filter = channel is not None or reason is not None
    if sum((bool(ids), has_filter, everything)) != 1:
        raise typer.BadParameter("give ids, or --channel and/or --reason, or --all")
    broker, existing = Broker(load().need_kafka()), list(_dead_letters())
    if ids:
        chosen = _with_ids(existing, ids)
    else:
        candidates = dead_letters.drop_superseded(existing)
        chosen = [item for item in candidates if _matches(item, channel, reason)]
    without_origin = [item for item in chosen if not item.is_replayable]
    chosen = [item for item in chosen if item.is_replayable]
    count = 0 if dry_run else _replay(broker, chosen)
    if as_json:
        document = {
            "replayed": count,
            "letters": [item.id for item in chosen],
            "without_origin": [item.id for item in without_origin],
        }
        print_json(document)
        return
    summary = f"{len(chosen)} would be replayed" if dry_run else f"{count} replayed"
    console().print(summary + _count_by_reason(chosen))
    for item in without_origin:
        notes().print(plain(f"{item.id} was not replayed: its origin is not one of our topics"))


def _replay(broker: Broker, chosen: list[DeadLetter]) -> int:
    if not chosen:
        return 0
    with progress_bar(MofNCompleteColumn()) as bar:
        task = bar.add_task("replaying", total=len(chosen))
        ids = [item.id for item in chosen]
        return dead_letters.replay(broker, ids, on_acknowledged=lambda: bar.advance(task))


def _with_ids(existing: list[DeadLetter], ids: list[str]) -> list[DeadLetter]:
    by_id = {item.id: item for item in existing}
    wanted_ids = list(dict.fromkeys(_complete_id(id_) for id_ in ids))
    for wanted_id in wanted_ids:
        if wanted_id not in by_id:
            raise CommandError(f"there is no dead letter {wanted_id}; nothing was replayed")
    return [by_id[wanted_id] for wanted_id in wanted_ids]


def _complete_id(offset_or_id: str) -> str:
    """Add the partition to an offset alone; the topic has only partition 0."""
    return offset_or_id if ":" in offset_or_id else f"0:{offset_or_id}"


def _dead_letters_with_records() -> Iterator[tuple[DeadLetter, Any]]:
    return dead_letters.read_all(Broker(load().need_kafka()))


def _dead_letters() -> Iterator[DeadLetter]:
    return (dead_letter for dead_letter, _ in _dead_letters_with_records())


def _matches(item: DeadLetter, channel: Source | None, reason: Reason | None) -> bool:
    return channel in {None, item.channel} and reason in {None, item.reason}


def _origin(item: DeadLetter) -> str:
    return f"{item.origin_topic}:{item.origin_partition}:{item.origin_offset}"


def _to_document(item: DeadLetter) -> dict[str, Any]:
    return asdict(item) | {"at": item.at.isoformat()}


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield f"{name}.{key}", inner


def _count_by_reason(chosen: list[DeadLetter]) -> str:
    counts = Counter(f"{item.channel} {item.reason}" for item in chosen)
    parts = [f"{count} {name}" for name, count in sorted(counts.items())]
    return f": {', '.join(parts)}" if parts else ""
