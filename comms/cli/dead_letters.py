"""`comms dead-letters`: what no consumer could process, looked at and put back.

Letters are read straight from Kafka, with no group. Recipients and contents are shown only when
asked for.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from comms.cli.dead_letter_view import opened
from comms.cli.errors import CommandError
from comms.cli.output import AsJson, console, moment, notes, plain, print_json, table
from comms.cli.times import instant
from comms.platform import dead_letters
from comms.platform.dead_letters import DeadLetter
from comms.platform.kafka import Broker
from comms.platform.registry import codec_of
from comms.platform.settings import load
from schemas.vocabulary import Channel, Reason


class Whose(StrEnum):
    """Whose record a letter is: a channel's, or the status topic's."""

    SMS = Channel.SMS
    EMAIL = Channel.EMAIL
    PUSH = Channel.PUSH
    VOICE = Channel.VOICE
    STATUS = "status"


ChannelOption = Annotated[Whose | None, typer.Option("--channel")]
ReasonOption = Annotated[Reason | None, typer.Option("--reason", metavar="REASON")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="As `list` shows them.")]


def show_all(
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    since: Annotated[str | None, typer.Option(help="2h (ago), or RFC 3339.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most: the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Dead letters, newest last."""
    begin = datetime.fromisoformat(instant(since)) if since else None
    newest: deque[DeadLetter] = deque(maxlen=limit)
    count = 0
    for letter in _letters():
        if _fits(letter, channel, reason) and (begin is None or letter.at >= begin):
            newest.append(letter)
            count += 1
    if as_json:
        print_json({"items": [_document(letter) for letter in newest], "count": count})
        return
    shown = table("id", "when", "channel", "reason", "from", "detail")
    for letter in newest:
        when, origin = moment(letter.at.isoformat()), plain(_origin(letter))
        words = plain(letter.channel), plain(letter.reason), origin, plain(letter.detail)
        shown.add_row(letter.id, when, *words)
    console().print(shown)
    if count > limit:
        notes().print(f"There are {count - limit} older ones: --limit")


def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    content: Annotated[
        bool, typer.Option("--content", help="Recipients and contents too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One dead letter: its story, and what can be read of the record."""
    settings, wanted = load(), _id(letter_id)
    found = next(
        (both for both in _letters_with_records() if both[0].id == wanted),
        None,
    )
    if found is None:
        raise CommandError(f"there is no dead letter {letter_id}")
    letter, record = found
    inside = opened(record, letter.channel, codec_of(settings), content=content)
    if as_json:
        print_json(_document(letter) | inside)
        return
    facts = table("", "")
    facts.show_header = False
    for name, value in (_document(letter) | inside).items():
        for field, said in _lines(name, value):
            facts.add_row(field, plain(said))
    console().print(facts)


def replay(
    ids: Ids = None,
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every letter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put letters back, unchanged, into the topics they came from.

    A message that was sent already is not sent again. A letter that is not mended is buried again.
    """
    filtered = channel is not None or reason is not None
    if sum((bool(ids), filtered, everything)) != 1:
        raise typer.BadParameter("give ids, or --channel and --reason, or --all")
    broker, found = _broker(), list(_letters())
    if ids:
        chosen = _named(found, ids)
    else:
        fitting = dead_letters.newest_of_each_line(found)
        chosen = [letter for letter in fitting if _fits(letter, channel, reason)]
    lost = [letter for letter in chosen if not letter.may_return]
    chosen = [letter for letter in chosen if letter.may_return]
    sent = 0 if dry_run else _replayed(broker, chosen)
    if as_json:
        print_json(
            {
                "replayed": sent,
                "letters": [letter.id for letter in chosen],
                "without_origin": [letter.id for letter in lost],
            }
        )
        return
    said = f"{len(chosen)} would be replayed" if dry_run else f"{sent} replayed"
    console().print(said + _by_kind(chosen))
    for letter in lost:
        notes().print(plain(f"{letter.id} names no topic of ours as its origin"))


def _replayed(broker: Broker, chosen: list[DeadLetter]) -> int:
    if not chosen:
        return 0
    with _bar() as bar:
        task = bar.add_task("replaying", total=len(chosen))
        wanted = [letter.id for letter in chosen]
        return dead_letters.replay(broker, wanted, on_acknowledged=lambda: bar.advance(task))


def _named(found: list[DeadLetter], ids: list[str]) -> list[DeadLetter]:
    by_id = {letter.id: letter for letter in found}
    wanted = list(dict.fromkeys(_id(given) for given in ids))
    for letter_id in wanted:
        if letter_id not in by_id:
            raise CommandError(f"there is no dead letter {letter_id}; nothing was replayed")
    return [by_id[letter_id] for letter_id in wanted]


def _id(given: str) -> str:
    """An offset alone is one of the first partition, of which the topic has one."""
    return given if ":" in given else f"0:{given}"


def _broker() -> Broker:
    return Broker(load().need_kafka())


def _letters_with_records() -> Iterator[tuple[DeadLetter, Any]]:
    return dead_letters.letters(_broker())


def _letters() -> Iterator[DeadLetter]:
    return (letter for letter, _ in _letters_with_records())


def _fits(letter: DeadLetter, channel: Whose | None, reason: Reason | None) -> bool:
    return channel in {None, letter.channel} and reason in {None, letter.reason}


def _origin(letter: DeadLetter) -> str:
    return f"{letter.origin_topic}:{letter.origin_partition}:{letter.origin_offset}"


def _document(letter: DeadLetter) -> dict[str, Any]:
    return asdict(letter) | {"at": letter.at.isoformat()}


def _lines(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for inner, said in value.items():
        yield f"{name}.{inner}", said


def _by_kind(chosen: list[DeadLetter]) -> str:
    kinds = Counter(f"{letter.channel} {letter.reason}" for letter in chosen)
    parts = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
    return f": {', '.join(parts)}" if parts else ""


def _bar() -> Progress:
    out = notes()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=out,
        disable=not out.is_terminal,
        transient=True,
    )
