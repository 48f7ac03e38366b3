"""How many messages a second go through one adapter over HTTP, and what that costs beside its wire.

    python -m benchmarks.adapter [--count 20000] [--latency 0.05] [--in-flight 256] [--rounds 3]

Twilio's adapter for text messages, built from a table as a channel process builds it, sends
messages in one process to a stub in another, which answers after a fixed wait. In turns with it, in
the same run: the same requests by `HttpTransport` alone, and by aiohttp with nothing around it.
Prints messages a second, CPU milliseconds a message of each, and their ratio to bare aiohttp's.
"""

import argparse
import gc
import json
import statistics
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import uvloop

from benchmarks.callers import BODY, HEADERS
from benchmarks.clients import PATH, Cost, apart, bare, cost_of, median, stub
from comms.platform.settings import ProviderSettings, load
from consumers.registry import build
from consumers.sdk.http_transport import HttpTransport
from consumers.sdk.outcomes import Accepted
from consumers.sdk.provider import Attempt
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel

SID = PATH.split("/")[3]
WAYS = ("bare", "transport", "adapter")


async def by_adapter(url: str, count: int, in_flight: int) -> Cost:
    """Messages through `Provider.send`."""
    settings = load(
        {
            "COMMS_DATA_DIR": "no-such-folder",
            "COMMS_SMS_CONCURRENCY": str(in_flight),
            "TWILIO_ACCOUNT_SID": SID,
            "TWILIO_AUTH_TOKEN": "the auth token",
        }
    )
    options = {"from": "+15005550006", "base_url": url}
    provider = build(
        Channel.SMS, ProviderSettings(name="twilio", type="twilio", options=options), settings
    )
    left = iter([_message(number) for number in range(count + 2 * in_flight)])

    async def send() -> None:
        message = next(left)
        outcome = await provider.send(message, Attempt(message.id, 1))
        assert isinstance(outcome, Accepted)

    gc.freeze()  # what waits to be sent is not the adapter's
    await provider.open()
    try:
        return await cost_of(send, count, in_flight)
    finally:
        await provider.close()


async def by_transport(url: str, count: int, in_flight: int) -> Cost:
    """The same request every time, through what adapters send it by."""
    transport = HttpTransport(timeout_seconds=30, connections=in_flight)

    async def call() -> None:
        answer = await transport.call("POST", url + PATH, body=BODY, headers=HEADERS)
        assert answer.status == 201

    await transport.open()
    try:
        return await cost_of(call, count, in_flight)
    finally:
        await transport.close()


def _message(number: int) -> SmsMessage:
    now = datetime.now(UTC)
    return SmsMessage(
        id=new_message_id(),
        tenant="benchmark",
        created_at=now,
        to=f"+1212{5_000_000 + number % 900_000:07d}",
        body="Your technician arrives between nine and ten tomorrow.",
        expires_at=now + timedelta(hours=4),
    )


async def one(way: str, url: str, count: int, in_flight: int) -> Cost:
    """What a message costs one way."""
    if way == "adapter":
        return await by_adapter(url, count, in_flight)
    if way == "transport":
        return await by_transport(url, count, in_flight)
    return await bare("aiohttp", url, count, in_flight)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--one"]:
        way, url, count, in_flight = sys.argv[2:]
        print(json.dumps(asdict(uvloop.run(one(way, url, int(count), int(in_flight))))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    with stub(options.latency) as url:
        for number in range(options.rounds):
            for way, found in costs.items():
                arguments = (way, url, str(options.count), str(options.in_flight))
                cost = apart("benchmarks.adapter", *arguments)
                found.append(cost)
                print(f"round {number + 1} {way:9} {cost}", flush=True)
    for way in WAYS[1:]:
        ratios = [mine.cpu / its.cpu for mine, its in zip(costs[way], costs["bare"], strict=True)]
        ratio = statistics.median(ratios)
        print(f"{way:9} {median(costs[way])} a message, {ratio:.2f} of bare aiohttp's")


if __name__ == "__main__":
    main()
