"""Measure how many messages a second one HTTP adapter sends, and its cost beside the HTTP client.

    python -m benchmarks.adapter [--count 20000] [--latency 0.05] [--in-flight 256] [--rounds 3]

Twilio's adapter for text messages is built from its settings, as in a channel process. It sends
messages to a stub in another process, which answers after a fixed time. The same run measures, in
turns, the same requests with `HttpTransport` alone, and with aiohttp alone. For each, the benchmark
prints messages a second, CPU milliseconds a message, and the ratio to aiohttp alone.
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
from benchmarks.clients import (
    PATH,
    Cost,
    measure,
    measure_client,
    measure_in_process,
    median,
    running_stub,
)
from comms.platform.settings import ProviderSettings, load
from consumers.registry import build
from consumers.sdk.http_transport import HttpTransport
from consumers.sdk.outcomes import Accepted
from consumers.sdk.provider import Attempt
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel

SID = PATH.split("/")[3]
VARIANTS = ("bare", "transport", "adapter")


async def measure_adapter(url: str, count: int, in_flight: int) -> Cost:
    """Measure messages that go through `Provider.send`."""
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
    messages = iter([_new_message(number) for number in range(count + 2 * in_flight)])

    async def send() -> None:
        message = next(messages)
        outcome = await provider.send(message, Attempt(message.id, 1))
        assert isinstance(outcome, Accepted)

    gc.freeze()  # the garbage collector must not visit the prepared messages
    await provider.open()
    try:
        return await measure(send, count, in_flight)
    finally:
        await provider.close()


async def measure_transport(url: str, count: int, in_flight: int) -> Cost:
    """Measure one repeated request through `HttpTransport`, which all adapters use."""
    transport = HttpTransport(timeout_seconds=30, connections=in_flight)

    async def call() -> None:
        response = await transport.call("POST", url + PATH, body=BODY, headers=HEADERS)
        assert response.status == 201

    await transport.open()
    try:
        return await measure(call, count, in_flight)
    finally:
        await transport.close()


def _new_message(number: int) -> SmsMessage:
    now = datetime.now(UTC)
    return SmsMessage(
        id=new_message_id(),
        tenant="benchmark",
        created_at=now,
        to=f"+1212{5_000_000 + number % 900_000:07d}",
        body="Your technician arrives between nine and ten tomorrow.",
        expires_at=now + timedelta(hours=4),
    )


async def measure_variant(variant: str, url: str, *, count: int, in_flight: int) -> Cost:
    """Measure one of `VARIANTS`."""
    if variant == "adapter":
        return await measure_adapter(url, count, in_flight)
    if variant == "transport":
        return await measure_transport(url, count, in_flight)
    return await measure_client("aiohttp", url, count=count, in_flight=in_flight)


def main() -> None:
    """Measure all variants in turns and print their costs."""
    if sys.argv[1:2] == ["--one"]:
        variant, url, count, in_flight = sys.argv[2:]
        cost = uvloop.run(measure_variant(variant, url, count=int(count), in_flight=int(in_flight)))
        print(json.dumps(asdict(cost)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {variant: [] for variant in VARIANTS}
    with running_stub(options.latency) as url:
        for number in range(options.rounds):
            for variant, measured in costs.items():
                arguments = (variant, url, str(options.count), str(options.in_flight))
                cost = measure_in_process("benchmarks.adapter", *arguments)
                measured.append(cost)
                print(f"round {number + 1} {variant:9} {cost}", flush=True)
    for variant in VARIANTS[1:]:
        pairs = zip(costs[variant], costs["bare"], strict=True)
        ratio = statistics.median(cost.cpu / bare.cpu for cost, bare in pairs)
        print(f"{variant:9} {median(costs[variant])} a message, {ratio:.2f} of aiohttp alone")


if __name__ == "__main__":
    main()
