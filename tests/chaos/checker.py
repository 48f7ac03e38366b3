"""What really became of every accepted message, by evidence that the product does not write itself.

Reads the provider's journal (what was asked for), the API's answers (what was promised) and SQL
(what is said about it). Shares no code with the product: a fault in there must not hide itself
here.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import psycopg

FINAL = frozenset({"delivered", "failed", "cancelled", "unknown"})
TOOK_EFFECT = frozenset({"accepted", "hung", "closed"})
STATUS_SQL = "SELECT id::text, status, reason FROM audit.message"
EVENTS_SQL = "SELECT message_id::text, attempt, reason FROM audit.event WHERE attempt IS NOT NULL"
HELD_SQL = """
SELECT message_id::text FROM producer.outbox UNION SELECT message_id::text FROM producer.scheduled
UNION SELECT message_id::text FROM consumers.deferred
UNION SELECT a.message_id::text FROM consumers.attempt a WHERE NOT EXISTS (
    SELECT FROM consumers.outcome o WHERE o.message_id = a.message_id AND o.attempt = a.attempt)
"""

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Promise:
    """A message that was answered 202, in the order of the answers."""

    id: str
    channel: str
    recipient: str
    holds_doubt: bool = False


@dataclass(kw_only=True)
class Findings:
    """What was found; every list names messages."""

    accepted: int
    final: int
    statuses: Counter[str]
    calls: int
    duplicate_calls: int = 0
    declared: int = 0
    lost: list[str] = field(default_factory=list)
    in_flight: list[str] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    order_violations: list[str] = field(default_factory=list)
    wrong_statuses: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (
            self.lost
            or self.in_flight
            or self.undeclared
            or self.order_violations
            or self.wrong_statuses
        )

    def report(self) -> str:
        """A line for each figure, with the first few messages concerned."""
        lines = [
            f"accepted            {self.accepted:>8}",
            f"final               {self.final:>8}   {dict(self.statuses)}",
            f"provider calls      {self.calls:>8}",
            f"duplicate calls     {self.duplicate_calls:>8}   declared ambiguous: {self.declared}",
        ]
        for name in ("in_flight", "lost", "undeclared", "order_violations", "wrong_statuses"):
            found: list[str] = getattr(self, name)
            some = "   " + ", ".join(found[:5]) if found else ""
            lines.append(f"{name.replace('_', ' '):<20}{len(found):>8}{some}")
        return "\n".join(lines)


def read_lines(path: Path) -> list[Line]:
    """A file of JSON lines; a last line cut by a kill is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def promises_of(answers: Path) -> list[Promise]:
    """What the API promised, in the order of its answers."""
    return [
        Promise(a["id"], a["channel"], a["recipient"], a.get("on_doubt") == "hold")
        for a in read_lines(answers)
    ]


def doors_of(accepted: Path, emptied_at: Sequence[float], journal: Sequence[Line]) -> list[Promise]:
    """What the broker took from a producer without an outbox, without what went down with a broker
    before anybody had called for it."""
    first_call = {line["id"]: line["at"] for line in reversed(journal)}
    return [
        Promise(a["id"], a["channel"], a["recipient"])
        for a in read_lines(accepted)
        if not any(a["at"] < end < first_call.get(a["id"], inf) for end in emptied_at)
    ]


def unfinished(promises: Iterable[Promise], database_url: str) -> int:
    """How many promised messages are not final."""
    with psycopg.connect(database_url, connect_timeout=3) as session:
        status = {row[0]: row[1] for row in session.execute(STATUS_SQL)}
    return sum(status.get(promise.id) not in FINAL for promise in promises)


def check(
    promises: Sequence[Promise],
    journal: Sequence[Line],
    database_url: str,
    *,
    doors: Sequence[Promise] = (),
) -> Findings:
    """Compare the sources.

    Args:
        promises: what the API accepted, in the order of its answers.
        doors: what the broker took without it, and must not be lost either.
    """
    with psycopg.connect(database_url) as session:
        status = {row[0]: row[1] for row in session.execute(STATUS_SQL)}
        held = {row[0] for row in session.execute(HELD_SQL.encode())}
        doubts: defaultdict[str, set[int]] = defaultdict(set)
        retried: set[str] = set()
        for message_id, attempt, reason in session.execute(EVENTS_SQL):
            if reason == "ambiguous":
                doubts[message_id].add(attempt)
            if attempt > 1 or reason == "ambiguous":
                retried.add(message_id)
    calls: defaultdict[str, list[Line]] = defaultdict(list)
    for line in journal:
        calls[line["id"]].append(line)
    known = {promise.id for promise in (*promises, *doors)}
    found = Findings(
        accepted=len(known),
        final=sum(status.get(each) in FINAL for each in known),
        statuses=Counter(status.get(each, "missing") for each in known),
        calls=len(journal),
    )
    for each in sorted(known):
        if status.get(each) not in FINAL:
            (found.in_flight if each in held else found.lost).append(each)
    held_back = {promise.id for promise in promises if promise.holds_doubt}
    _check_duplicates(found, calls, doubts, held_back)
    _check_order(found, promises, calls, retried)
    _check_statuses(found, status, known, calls)
    return found


def _check_duplicates(
    found: Findings,
    calls: Mapping[str, Sequence[Line]],
    doubts: Mapping[str, set[int]],
    held_back: set[str],
) -> None:
    """A repeated call is declared when an event between the two says that there was doubt, and
    the sender did not want it held."""
    for message_id, lines in calls.items():
        effective = [line["attempt"] for line in lines if line["answer"] in TOOK_EFFECT]
        for before, after in pairwise(effective):
            found.duplicate_calls += 1
            spoken = any(before <= n <= after for n in doubts.get(message_id, ()))
            if after > before and spoken and message_id not in held_back:
                found.declared += 1
            else:
                found.undeclared.append(f"{message_id} (attempts {before}, {after})")


def _check_order(
    found: Findings,
    promises: Sequence[Promise],
    calls: Mapping[str, Sequence[Line]],
    retried: set[str],
) -> None:
    """First calls of one recipient's messages stand in the order of acceptance; a message that
    was refused or in doubt steps aside."""
    place = {line["id"]: n for n, line in reversed(list(enumerate(_all(calls))))}
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    for promise in promises:
        here = place.get(promise.id)
        if here is None or promise.id in retried:
            continue
        line = promise.channel, promise.recipient
        if line in latest and here < latest[line][0]:
            found.order_violations.append(f"{promise.id} before {latest[line][1]}")
        else:
            latest[line] = here, promise.id


def _all(calls: Mapping[str, Sequence[Line]]) -> list[Line]:
    return sorted((line for lines in calls.values() for line in lines), key=lambda one: one["at"])


def _check_statuses(
    found: Findings,
    status: Mapping[str, str],
    known: Iterable[str],
    calls: Mapping[str, Sequence[Line]],
) -> None:
    for each in sorted(known):
        answers = {line["answer"] for line in calls.get(each, ())}
        said = status.get(each)
        if said == "delivered" and not answers & TOOK_EFFECT:
            found.wrong_statuses.append(f"{each} delivered, never asked for")
        if said == "sent" and not answers & TOOK_EFFECT:
            found.wrong_statuses.append(f"{each} sent, never asked for")
        if said == "failed" and answers & TOOK_EFFECT:
            found.wrong_statuses.append(f"{each} failed, but went out")
