"""Sample traffic, so that a new system has something to show.

`comms up --demo` runs it as the service `demo`. It posts to the API like any client: a few messages
a second over the four channels, with the texts of a home-service company. Some go to the magic
recipients of the simulated provider, so that failures and retries appear too. No sample goes to a
real provider, whatever is configured.
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
RETRY_SECONDS = (1.0, 15.0)  # first and longest wait while the API is unreachable
KEY_POLL_SECONDS = 1.0

Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Customer:
    """An invented customer; the numbers and addresses cannot belong to anyone."""

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

# The simulated provider's magic recipients: last digits of the number, and relative frequency.
_MAGIC: Mapping[str, tuple[int, int]] = {
    "invalid": (101, 20),
    "temporary": (102, 30),
    "exhausted": (103, 4),
    "no-receipt": (104, 10),
    "ambiguous": (105, 3),
    "slow": (106, 8),
    "undelivered": (107, 15),
    "limited": (108, 10),
}
_MAGIC_SHARE = 0.07


def customers() -> tuple[Customer, ...]:
    """Return the invented customers of the company."""
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
    """Post sample messages until `stop` is set; wait while the API is unreachable."""
    client = _connect(settings, stop)
    if client is None:
        return
    chance = random.Random()  # noqa: S311 - which sample comes next is no secret
    all_customers = customers()
    wait = RETRY_SECONDS[0]
    with client:
        while not stop.is_set():
            if _post(client, sample(all_customers, chance, datetime.now(UTC))):
                wait = RETRY_SECONDS[0]
                stop.wait(chance.expovariate(PER_SECOND))
            else:
                stop.wait(wait)
                wait = min(2 * wait, RETRY_SECONDS[1])


def sample(all_customers: tuple[Customer, ...], chance: random.Random, now: datetime) -> Content:
    """Make one message in the form that the API accepts."""
    customer = chance.choice(all_customers)
    write = chance.choices((_reminder, _estimate, _on_the_way, _invoice, _urgent), (4, 3, 4, 3, 1))
    message = write[0](customer, chance, now)
    if chance.random() < _MAGIC_SHARE:
        message["to"] = _magic_recipient(str(message["channel"]), chance)
    return {
        "customer_id": customer.id,
        "metadata": {"sample": "yes"},
        "mode": "simulated",
        **message,
    }


def _connect(settings: Settings, stop: threading.Event) -> ApiClient | None:
    """Wait for the API key and return a client; None if `stop` was set first."""
    while not stop.is_set():
        try:
            return connect(settings, seconds=10.0)
        except SettingsError as error:
            log.info("demo.api_key_missing", problem=str(error))
            stop.wait(KEY_POLL_SECONDS)
    return None


def _post(client: ApiClient, message: Content) -> bool:
    """Post a message; return False if the API cannot take it now."""
    try:
        client.post("/v1/messages", message)
    except ApiUnreachableError as error:
        log.info("demo.api_unreachable", problem=str(error))
        return False
    except ApiRefusedError as error:
        log.warning("demo.message_refused", problem=str(error), channel=str(message["channel"]))
        return error.status == 422
    return True


def _magic_recipient(channel: str, chance: random.Random) -> str:
    names, frequencies = list(_MAGIC), [frequency for _, frequency in _MAGIC.values()]
    name = chance.choices(names, frequencies)[0]
    match channel:
        case "email":
            return f"{name}@simulator.example.com"
        case "push":
            return f"simulator:{name}"
        case _:
            return f"+12025550{_MAGIC[name][0]}"


def _reminder(customer: Customer, chance: random.Random, now: datetime) -> Content:
    day = f"{now + timedelta(days=chance.randint(1, 6)):%A}"
    hour = chance.choice(("8 and 10 am", "10 am and noon", "1 and 3 pm", "3 and 5 pm"))
    visit = chance.choice(_VISITS)
    text = f"Hi {_first_name(customer)}, a reminder of your {visit} on {day} between {hour}."
    common = {"workflow": "visit-reminder", "expires_at": (now + timedelta(hours=12)).isoformat()}
    if chance.random() < 0.25:
        speech = f"{text} To change the time, please call our office. Thank you."
        return {
            **common,
            "channel": "voice",
            "to": customer.number,
            "text": speech,
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
        f"Hello {_first_name(customer)},\n\nthank you for having us over. "
        f"Your estimate for the {job} comes to ${price:,}. "
        "It is valid for 30 days; just answer this message with any question."
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
        "text": f"Hello {_first_name(customer)},\n\n"
        f"your invoice {number} over ${total:,.2f} is ready.",
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


def _first_name(customer: Customer) -> str:
    return customer.name.split()[0]
