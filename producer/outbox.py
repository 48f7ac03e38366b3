"""The outbox, as a library: a message committed together with the workflow's own change, or not.

A workflow or plugin calls `Outbox.enqueue` on the connection it is working with; the HTTP API does
the same on its own. What is written there the relay publishes once the transaction has committed.
"""

from collections.abc import Awaitable, Sequence
from typing import overload

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from comms.platform.clock import Clock, utc_now
from producer.connections import AsyncHandle, Handle, SyncHandle, run, run_async
from producer.fingerprint import body_hash
from producer.statements import Entry, Result, accept
from schemas.codec import Codec
from schemas.errors import InvalidRecordError, Violation
from schemas.messages import Message
from schemas.rules import ANYTHING, NO_POLICIES, Policies, key_violations, violations
from schemas.topics import of_channel

Keys = str | Sequence[str | None] | None


class Outbox:
    """Accepts messages inside the caller's own transaction.

        outbox = Outbox()

        with psycopg.connect(url) as connection:          # commits at the end, or rolls back
            connection.execute("UPDATE orders SET state = 'shipped' WHERE id = %s", (17,))
            outbox.enqueue(
                connection,
                SmsMessage(
                    id=new_message_id(key="acme:+12025550100"),
                    tenant="acme",
                    created_at=utc_now(),
                    to="+12025550100",
                    body="Your order is on its way.",
                ),
                idempotency_key="order-17/shipped",
            )

    Order and text commit together, or neither does; and however often the workflow repeats the
    step, the key makes it one message. On an asynchronous connection, await the call. Tenants' rate
    limits hold at the HTTP API alone, not here.

    Args:
        codec: how records become bytes; with a schema registry if you run one.
        clock: what decides whether a `send_at` lies in the future.
        policies: the installation's (`Settings.policies`). Without them what it does not allow is
            accepted here, and refused by the channel.
    """

    def __init__(
        self,
        codec: Codec | None = None,
        clock: Clock = utc_now,
        policies: Policies = NO_POLICIES,
    ) -> None:
        self._codec = codec or Codec()
        self._clock, self._policies = clock, policies

    @overload
    def enqueue(
        self, connection: SyncHandle, message: Message, *, idempotency_key: str | None = None
    ) -> Result: ...
    @overload
    def enqueue(
        self,
        connection: SyncHandle,
        message: Sequence[Message],
        *,
        idempotency_key: Sequence[str | None] | None = None,
    ) -> tuple[Result, ...]: ...
    @overload
    def enqueue(
        self, connection: AsyncHandle, message: Message, *, idempotency_key: str | None = None
    ) -> Awaitable[Result]: ...
    @overload
    def enqueue(
        self,
        connection: AsyncHandle,
        message: Sequence[Message],
        *,
        idempotency_key: Sequence[str | None] | None = None,
    ) -> Awaitable[tuple[Result, ...]]: ...
    def enqueue(
        self,
        connection: Handle,
        message: Message | Sequence[Message],
        *,
        idempotency_key: Keys = None,
    ) -> Result | tuple[Result, ...] | Awaitable[Result] | Awaitable[tuple[Result, ...]]:
        """Write one message, or several in one statement, into the caller's transaction.

        Args:
            connection: psycopg's Connection or AsyncConnection, or SQLAlchemy's Connection,
                Session, AsyncConnection or AsyncSession over psycopg 3.
            message: what to send; its `id` is kept, so the same message twice is one.
            idempotency_key: the sender's own name of this message, unique within the tenant; for
                several messages, one (or None) each.

        Returns:
            `Accepted`, or `Conflict` where the key was used for other content; for several
            messages a tuple of them, in order.

        Raises:
            InvalidRecordError: a message breaks a rule; nothing was written.
            UnsupportedConnectionError: the connection is of another driver.

        Errors of the database come as the connection's own library raises them. At isolation level
        REPEATABLE READ or SERIALIZABLE, a key that another transaction commits at the same moment
        is the database's serialization failure; run the transaction again.
        """
        if isinstance(message, Sequence):
            return self._write(connection, self.entries(message, _several(idempotency_key)))
        if idempotency_key is not None and not isinstance(idempotency_key, str):
            raise TypeError("one message takes one idempotency_key")
        results = self._write(connection, self.entries([message], [idempotency_key]))
        return results[0] if isinstance(results, tuple) else _first(results)

    def entries(
        self, messages: Sequence[Message], keys: Sequence[str | None] | None = None
    ) -> list[Entry]:
        """The checked and encoded messages, ready to be written by `write_async`.

        Raises:
            InvalidRecordError: a message breaks a rule.
        """
        each = [None] * len(messages) if keys is None else keys
        if len(each) != len(messages):
            raise TypeError("as many idempotency keys as messages, or none")
        if found := self._violations(messages, each):
            raise InvalidRecordError(found)
        return [self._entry(message, key) for message, key in zip(messages, each, strict=True)]

    async def write_async(
        self, connection: AsyncHandle, entries: Sequence[Entry]
    ) -> tuple[Result, ...]:
        """Write what `entries` prepared; a result for each, in order."""
        return await run_async(connection, accept(entries)) if entries else ()

    def _write(
        self, connection: Handle, entries: Sequence[Entry]
    ) -> tuple[Result, ...] | Awaitable[tuple[Result, ...]]:
        if isinstance(connection, psycopg.AsyncConnection | AsyncConnection | AsyncSession):
            return self.write_async(connection, entries)
        return run(connection, accept(entries)) if entries else ()

    def _violations(
        self, messages: Sequence[Message], keys: Sequence[str | None]
    ) -> tuple[Violation, ...]:
        """What is wrong, with the message's place before the field where there are several."""
        found = [
            (n, violation)
            for n, (message, key) in enumerate(zip(messages, keys, strict=True))
            for violation in (
                *violations(message, self._policies.get(message.channel, ANYTHING)),
                *key_violations(key),
            )
        ]
        if len(messages) == 1:
            return tuple(violation for _, violation in found)
        return tuple(Violation(f"messages[{n}].{v.field}", v.problem) for n, v in found)

    def _entry(self, message: Message, key: str | None) -> Entry:
        topic = of_channel(message.channel, message.priority)
        send_at = message.send_at
        return Entry(
            message=message,
            idempotency_key=key,
            body_hash=body_hash(message),
            topic=topic,
            value=self._codec.encode(message, topic=topic),
            due_at=send_at if send_at is not None and send_at > self._clock() else None,
        )


def _several(keys: Keys) -> Sequence[str | None] | None:
    if isinstance(keys, str):
        raise TypeError("several messages take a list of idempotency keys, one each")
    return keys


async def _first(results: Awaitable[tuple[Result, ...]]) -> Result:
    return (await results)[0]
