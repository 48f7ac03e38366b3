"""Sample traffic, so that a system just started has something to show.

`comms up --demo` runs it as the service `demo`. It posts to the API as any client would, a few
messages a second over the four channels, in the words of a home-service company; now and then to
one of the simulated provider's magic recipients, so that failures and retries are seen too. No
sample is given to a real provider, whatever is configured.
"""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError, connect
from comms.platform.settings import Settings, SettingsError

log = structlog.get_logger(__name__)

PER_SECOND = 3.0
AWAY_SECONDS = (1.0, 15.0)  # first and longest wait for an API that is away
KEY_SECONDS = 1.0

Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who has a home; none of the numbers and addresses can belong to anyone."""

    id: str
    name: str
    number: str
    address: str
    device: str


_NAMES = (
    *("Maya Torres", "Owen Clarke", "Priya Natarajan", "Sam Whitfield", "Lena Fischer"),
    *("Marcus Bell", "Grace Okafor", "Diego Ramos", "Hannah Lee", "Tom Becker", "Aisha Khan"),
    *("Noah Lindqvist", "Chloe Martin", "Victor Chen", "Ruth Abrams", "Eli Novak"),
)
_VISITS = ("furnace tune-up", "drain cleaning", "water heater check", "panel inspection")
_JOBS = ("bathroom repipe", "heat pump installation", "roof repair", "kitchen rewiring")
_TECHNICIANS = ("Dana", "Luis", "Kofi", "Ingrid")

# What the simulated provider does for its magic recipients, with the share each is given.
_ODD: Mapping[str, tuple[int, int]] = {
    "invalid": (101, 20),
    "temporary": (102, 30),
    "exhausted": (103, 4),
    "no-receipt": (104, 10),
    "ambiguous": (105, 3),
    "slow": (106, 8),
    "undelivered": (107, 15),
    "limited": (108, 10),
}
_ODD_SHARE = 0.07


def customers() -> tuple[Customer, ...]:
    """The company's customers."""
    return tuple(
        Customer(
            id=f"cust-{1001 + n}",
            name=name,
            number=f"+120255501{20 + n}",
            address=f"{name} <{name.lower().replace(' ', '.')}@simulator.example.com>",
            device=f"simulator:{name.split()[0].lower()}-phone",
        )
        for n, name in enumerate(_NAMES)
    )


def run_demo(settings: Settings, stop: threading.Event) -> None:
    """Post sample messages until `stop` is set; waits while the API is away."""
    client = _client(settings, stop)
    if client is None:
        return
    chance = random.Random()  # noqa: S311 - which sample comes next is no secret
    everyone = customers()
    wait = AWAY_SECONDS[0]
    with client:
        while not stop.is_set():
            if _post(client, sample(everyone, chance, datetime.now(UTC))):
                wait = AWAY_SECONDS[0]
                stop.wait(chance.expovariate(PER_SECOND))
            else:
                stop.wait(wait)
                wait = min(2 * wait, AWAY_SECONDS[1])


def sample(everyone: tuple[Customer, ...], chance: random.Random, now: datetime) -> Content:
    """One message as it is posted."""
    customer = chance.choice(everyone)
    write = chance.choices((_reminder, _estimate, _on_the_way, _invoice, _urgent), (4, 3, 4, 3, 1))
    message = write[0](customer, chance, now)
    if chance.random() < _ODD_SHARE:
        message["to"] = _odd_recipient(str(message["channel"]), chance)
    return {
        "customer_id": customer.id,
        "metadata": {"sample": "yes"},
        "mode": "simulated",
        **message,
    }


def _client(settings: Settings, stop: threading.Event) -> ApiClient | None:
    """A client, once the API key is there."""
    while not stop.is_set():
        try:
            return connect(settings, seconds=10.0)
        except SettingsError as error:
            log.info("demo.waits", problem=str(error))
            stop.wait(KEY_SECONDS)
    return None


def _post(client: ApiClient, message: Content) -> bool:
    """Whether the API is there and took the message (or will never take it)."""
    try:
        client.post("/v1/messages", message)
    except ApiUnreachableError as error:
        log.info("demo.api_away", problem=str(error))
        return False
    except ApiRefusedError as error:
        log.warning("demo.refused", problem=str(error), channel=str(message["channel"]))
        return error.status == 422
    return True


def _odd_recipient(channel: str, chance: random.Random) -> str:
    words, shares = list(_ODD), [share for _, share in _ODD.values()]
    word = chance.choices(words, shares)[0]
    match channel:
        case "email":
            return f"{word}@simulator.example.com"
        case "push":
            return f"simulator:{word}"
        case _:
            return f"+12025550{_ODD[word][0]}"


def _reminder(customer: Customer, chance: random.Random, now: datetime) -> Content:
    day = f"{now + timedelta(days=chance.randint(1, 6)):%A}"
    hour = chance.choice(("8 and 10 am", "10 am and noon", "1 and 3 pm", "3 and 5 pm"))
    visit = chance.choice(_VISITS)
    text = f"Hi {_first(customer)}, a reminder of your {visit} on {day} between {hour}."
    common = {"workflow": "visit-reminder", "expires_at": (now + timedelta(hours=12)).isoformat()}
    if chance.random() < 0.25:
        spoken = f"{text} To change the time, please call our office. Thank you."
        return {
            **common,
            "channel": "voice",
            "to": customer.number,
            "text": spoken,
            "language": "en-US",
        }
    return {
        **common,
        "channel": "sms",
        "to": customer.number,
        "body": f"{text} Reply C to confirm or R to reschedule.",
    }


def _estimate(customer: Customer, chance: random.Random, _: datetime) -> Content:
    job, price = chance.choice(_JOBS), chance.randint(9, 140) * 50
    text = (
        f"Hello {_first(customer)},\n\nthank you for having us over. Your estimate for the {job} "
        f"comes to ${price:,}. It is valid for 30 days; just answer this message with any question."
        "\n\nYour home-service team"
    )
    return {
        "channel": "email",
        "workflow": "estimate-follow-up",
        "to": customer.address,
        "subject": f"Your estimate: {job}",
        "text": text,
        "html": "".join(f"<p>{part}</p>" for part in text.split("\n\n")),
    }


def _on_the_way(customer: Customer, chance: random.Random, _: datetime) -> Content:
    technician, minutes = chance.choice(_TECHNICIANS), chance.randint(2, 9) * 5
    if chance.random() < 0.3:
        body = f"{technician} is on the way and should be with you in {minutes} minutes."
        return {
            **{"channel": "sms", "workflow": "technician-on-the-way", "priority": "high"},
            **{"to": customer.number, "body": body},
        }
    return {
        "channel": "push",
        "workflow": "technician-on-the-way",
        "priority": "high",
        "to": customer.device,
        "title": f"{technician} is on the way",
        "body": f"Arriving in about {minutes} minutes.",
        "data": {"screen": "visit"},
        "collapse_key": "on-the-way",
        "ttl": 1800,
    }


def _invoice(customer: Customer, chance: random.Random, _: datetime) -> Content:
    number, total = chance.randint(20_000, 99_999), chance.randint(9_900, 240_000) / 100
    if chance.random() < 0.4:
        return {
            **{"channel": "push", "workflow": "invoice", "to": customer.device},
            **{"title": f"Invoice {number}", "body": f"${total:,.2f} is ready to be paid."},
        }
    return {
        "channel": "email",
        "workflow": "invoice",
        "to": customer.address,
        "subject": f"Invoice {number}",
        "text": f"Hello {_first(customer)},\n\nyour invoice {number} over ${total:,.2f} is ready.",
    }


def _urgent(customer: Customer, chance: random.Random, _: datetime) -> Content:
    technician = chance.choice(_TECHNICIANS)
    return {
        "channel": "voice",
        "workflow": "emergency-dispatch",
        "priority": "high",
        "to": customer.number,
        "text": f"This is your home-service team. {technician} has your emergency call and is "
        "setting out now. If anybody is in danger, please leave the house.",
        "repeat": 2,
    }


def _first(customer: Customer) -> str:
    return customer.name.split()[0]
