"""Checks what happened to every accepted message, from evidence that the product does not write.

Compares the provider's journal (which calls arrived), the API's responses (which messages were
accepted) and the database (which statuses the product reports). Shares no code with the product, so
that a bug there cannot hide itself here.
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
    """A message that the API or the broker accepted."""

    id: str
    channel: str
    recipient: str
    holds_when_unknown: bool = False


@dataclass(kw_only=True)
class Findings:
    """The result of a check. Each list names messages that break a promise."""

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
        """One line per figure, with the first few messages it concerns."""
        lines = [
            f"accepted            {self.accepted:>8}",
            f"final               {self.final:>8}   {dict(self.statuses)}",
            f"provider calls      {self.calls:>8}",
            f"duplicate calls     {self.duplicate_calls:>8}   declared ambiguous: {self.declared}",
        ]
        for name in ("in_flight", "lost", "undeclared", "order_violations", "wrong_statuses"):
            messages: list[str] = getattr(self, name)
            examples = "   " + ", ".join(messages[:5]) if messages else ""
            lines.append(f"{name.replace('_', ' '):<20}{len(messages):>8}{examples}")
        return "\n".join(lines)


def read_lines(path: Path) -> list[Line]:
    """Read a file of JSON lines. A line that a kill cut off is skipped."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def promises_of(answers: Path) -> list[Promise]:
    """The messages that the API accepted, in the order of its responses."""
    return [
        Promise(a["id"], a["channel"], a["recipient"], a.get("on_doubt") == "hold")
        for a in read_lines(answers)
    ]


def front_door_promises(
    accepted: Path, emptied_at: Sequence[float], journal: Sequence[Line]
) -> list[Promise]:
    """The messages that the broker accepted from the front door and that must not be lost.

    The front door has no outbox. A message that was sent before the broker was emptied, and was not
    called by then, may be lost with the broker's data. Such messages are left out.
    """
    first_call = {line["id"]: line["at"] for line in reversed(journal)}
    return [
        Promise(a["id"], a["channel"], a["recipient"])
        for a in read_lines(accepted)
        if not any(a["at"] < end < first_call.get(a["id"], inf) for end in emptied_at)
    ]


def unfinished(promises: Iterable[Promise], database_url: str) -> int:
    """Count the accepted messages that have no final status yet."""
    with psycopg.connect(database_url, connect_timeout=3) as session:
        status = {row[0]: row[1] for row in session.execute(STATUS_SQL)}
    return sum(status.get(promise.id) not in FINAL for promise in promises)


def check(
    promises: Sequence[Promise],
    journal: Sequence[Line],
    database_url: str,
    *,
    front_door: Sequence[Promise] = (),
) -> Findings:
    """Compare the records of the run with the database.

    Args:
        promises: the messages that the API accepted, in the order of its responses.
        journal: the calls that the provider received.
        front_door: the messages that the broker accepted directly, which must not be lost either.
    """
    with psycopg.connect(database_url) as session:
        status = {row[0]: row[1] for row in session.execute(STATUS_SQL)}
        held = {row[0] for row in session.execute(HELD_SQL.encode())}
        ambiguous: defaultdict[str, set[int]] = defaultdict(set)
        retried: set[str] = set()
        for message_id, attempt, reason in session.execute(EVENTS_SQL):
            if reason == "ambiguous":
                ambiguous[message_id].add(attempt)
            if attempt > 1 or reason == "ambiguous":
                retried.add(message_id)
    calls: defaultdict[str, list[Line]] = defaultdict(list)
    for line in journal:
        calls[line["id"]].append(line)
    accepted = {promise.id for promise in (*promises, *front_door)}
    findings = Findings(
        accepted=len(accepted),
        final=sum(status.get(message_id) in FINAL for message_id in accepted),
        statuses=Counter(status.get(message_id, "missing") for message_id in accepted),
        calls=len(journal),
    )
    for message_id in sorted(accepted):
        if status.get(message_id) not in FINAL:
            (findings.in_flight if message_id in held else findings.lost).append(message_id)
    on_hold = {promise.id for promise in promises if promise.holds_when_unknown}
    _check_duplicates(findings, calls, ambiguous, on_hold=on_hold)
    _check_order(findings, promises, calls, retried=retried)
    _check_statuses(findings, status, accepted, calls=calls)
    return findings


def _check_duplicates(
    findings: Findings,
    calls: Mapping[str, Sequence[Line]],
    ambiguous: Mapping[str, set[int]],
    *,
    on_hold: set[str],
) -> None:
    """Find repeated calls that no event declares.

    A repeated call is declared if an event between the two calls has the reason `ambiguous` and the
    message does not say `on_doubt: hold`.
    """
    for message_id, lines in calls.items():
        effective = [line["attempt"] for line in lines if line["answer"] in TOOK_EFFECT]
        for before, after in pairwise(effective):
            findings.duplicate_calls += 1
            attempts = ambiguous.get(message_id, ())
            is_declared = any(before <= attempt <= after for attempt in attempts)
            if after > before and is_declared and message_id not in on_hold:
                findings.declared += 1
            else:
                findings.undeclared.append(f"{message_id} (attempts {before}, {after})")


def _check_order(
    findings: Findings,
    promises: Sequence[Promise],
    calls: Mapping[str, Sequence[Line]],
    *,
    retried: set[str],
) -> None:
    """Find messages that were called before an earlier message of the same recipient.

    Only first calls count. A message that was retried or ambiguous may lose its turn.
    """
    position = {line["id"]: n for n, line in reversed(list(enumerate(_in_order(calls))))}
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    for promise in promises:
        first_call = position.get(promise.id)
        if first_call is None or promise.id in retried:
            continue
        recipient = promise.channel, promise.recipient
        if recipient in latest and first_call < latest[recipient][0]:
            findings.order_violations.append(f"{promise.id} before {latest[recipient][1]}")
        else:
            latest[recipient] = first_call, promise.id


def _in_order(calls: Mapping[str, Sequence[Line]]) -> list[Line]:
    return sorted((line for lines in calls.values() for line in lines), key=lambda line: line["at"])


def _check_statuses(
    findings: Findings,
    status: Mapping[str, str],
    accepted: Iterable[str],
    *,
    calls: Mapping[str, Sequence[Line]],
) -> None:
    """Find statuses that contradict the provider's journal."""
    for message_id in sorted(accepted):
        took_effect = any(line["answer"] in TOOK_EFFECT for line in calls.get(message_id, ()))
        reported = status.get(message_id)
        if reported in ("delivered", "sent") and not took_effect:
            findings.wrong_statuses.append(f"{message_id} {reported}, but never called")
        if reported == "failed" and took_effect:
            findings.wrong_statuses.append(f"{message_id} failed, but the provider accepted it")
