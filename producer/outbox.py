"""The outbox library: a message commits together with the workflow's own change, or not at all.

A workflow or plugin calls `Outbox.enqueue` with its own database connection. The HTTP API uses the
same class with its connection pool (`producer.batcher`). The relay publishes the messages once the
transaction has committed.
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
    """Accepts messages in the caller's own transaction.

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

    The order and the text message commit together, or neither does. However often the workflow
    repeats the step, the key makes it one message. On an asynchronous connection, await the call.
    Rate limits of tenants apply to the HTTP API only, not to this library.

    Args:
        codec: encodes the records; pass one with a schema registry if you run a registry.
        clock: decides whether a `send_at` is in the future.
        policies: the policies of the installation (`Settings.policies`). Without them, a message
            that the policies forbid is accepted here and refused by its channel.
    """

    def __init__(
        self,
        codec: Codec | None = None,
        clock: Clock = utc_now,
        policies: Policies = NO_POLICIES,
    ) -> None:
        self._codec = codec or Codec()
        self._clock = clock
        self._policies = policies

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
        """Write one message, or several in one statement, in the caller's transaction.

        Args:
            connection: a Connection or AsyncConnection of psycopg, or a Connection, Session,
                AsyncConnection or AsyncSession of SQLAlchemy with psycopg 3.
            message: the message to send. Its `id` is kept, so that writing the same message twice
                makes one message.
            idempotency_key: the sender's own name of this message, unique for the tenant. For
                several messages, a list with one key or None for each.

        Returns:
            `Enqueued`, or `KeyConflict` if the key was used for other content. For several
            messages, a tuple of them, in order.

        Raises:
            InvalidRecordError: a message breaks a rule; nothing was written.
            UnsupportedConnectionError: the connection uses another driver.

        Database errors are raised as the library of the connection raises them. At the isolation
        levels REPEATABLE READ and SERIALIZABLE, a key that another transaction commits at the same
        time causes a serialization failure; run the transaction again.
        """
        if isinstance(message, Sequence):
            return self._write(connection, self.entries(message, _check_keys(idempotency_key)))
        if idempotency_key is not None and not isinstance(idempotency_key, str):
            raise TypeError("pass one idempotency_key for one message")
        results = self._write(connection, self.entries([message], [idempotency_key]))
        return results[0] if isinstance(results, tuple) else _first(results)

    def entries(
        self, messages: Sequence[Message], keys: Sequence[str | None] | None = None
    ) -> list[Entry]:
        """Check and encode messages, and return entries for `write_async`.

        Raises:
            InvalidRecordError: a message breaks a rule.
        """
        keys = [None] * len(messages) if keys is None else keys
        if len(keys) != len(messages):
            raise TypeError("pass as many idempotency keys as messages, or none")
        if broken := self._violations(messages, keys):
            raise InvalidRecordError(broken)
        return [self._entry(message, key) for message, key in zip(messages, keys, strict=True)]

    async def write_async(
        self, connection: AsyncHandle, entries: Sequence[Entry]
    ) -> tuple[Result, ...]:
        """Write entries that `entries` returned, and return a result for each, in order."""
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
        """Return the broken rules. With several messages, fields begin with `messages[n].`."""
        broken = [
            (n, violation)
            for n, (message, key) in enumerate(zip(messages, keys, strict=True))
            for violation in (
                *violations(message, self._policies.get(message.channel, ANYTHING)),
                *key_violations(key),
            )
        ]
        if len(messages) == 1:
            return tuple(violation for _, violation in broken)
        return tuple(Violation(f"messages[{n}].{v.field}", v.problem) for n, v in broken)

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


def _check_keys(keys: Keys) -> Sequence[str | None] | None:
    if isinstance(keys, str):
        raise TypeError("pass a list of idempotency keys for several messages, one for each")
    return keys


async def _first(results: Awaitable[tuple[Result, ...]]) -> Result:
    return (await results)[0]
