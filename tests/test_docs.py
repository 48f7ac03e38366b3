"""The documents held to the code: what they list is what there is, and their example works.

Words, metrics, settings and fingerprints are read from the tables of `docs/`, compared with the
modules they describe, and links are followed.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from comms.platform import metrics
from comms.platform.settings import ChannelSettings, RetryPolicy, RoutingPolicy, load
from comms.services import SERVICES
from consumers.simulator.options import SimulatorOptions, read
from schemas.codec import FILE_OF, SINGLE_OBJECT, Codec, fingerprint_of, schema_of, source_of
from schemas.events import StatusEvent
from schemas.ids import new_message_id
from schemas.lifecycle import TRANSITIONS
from schemas.messages import SmsMessage
from schemas.rules.numbers import COUNTRIES_WITHOUT_SENDER_NAMES
from schemas.vocabulary import Reason, Status

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted((*DOCS.rglob("*.md"), *ROOT.glob("*.md")))
DERIVED = ("_bucket", "_count", "_sum")  # what Prometheus makes of a histogram


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(document: str, *, heading: str | None = None) -> list[list[str]]:
    """The cells of every row of the tables under a heading, or of the whole document."""
    if heading is not None:
        document = re.split(r"^#+ ", document.split(f"{heading}\n", 1)[1], flags=re.MULTILINE)[0]
    lines = [line for line in document.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def collected() -> list[Metric]:
    """Every metric that the module defines, as Prometheus will see it."""
    defined = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return [metric for collector in defined for metric in collector.collect()]


def exposed_name(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def test_lifecycle_lists_every_status_with_what_may_follow_it() -> None:
    listed = rows(text("docs/lifecycle.md"), heading="Statuses")
    assert {Status(word): words(row[2]) for row in listed for word in words(row[0])} == {
        status: set(map(str, after)) for status, after in TRANSITIONS.items()
    }


def test_lifecycle_lists_exactly_the_reasons() -> None:
    listed = [row[0].strip("`") for row in rows(text("docs/lifecycle.md"), heading="Reasons")]
    assert listed == [str(reason) for reason in Reason]


def test_every_reason_stands_under_a_status_that_exists() -> None:
    said = [row[1] for row in rows(text("docs/lifecycle.md"), heading="Reasons")]
    known = {*map(str, Status), "any"}
    assert {word for cell in said for word in cell.split(", ")} <= known


def test_metrics_lists_exactly_what_there_is() -> None:
    listed = {row[0].strip("`") for row in rows(text("docs/metrics.md")) if "comms_" in row[0]}
    assert listed == {exposed_name(metric) for metric in collected()}


def test_metrics_tells_kind_and_meaning_as_the_code_does() -> None:
    table = {row[0].strip("`"): row for row in rows(text("docs/metrics.md"))}
    for metric in collected():
        row = table[exposed_name(metric)]
        assert row[1] == ("gauge" if metric.type == "info" else metric.type)
        assert metric.type == "info" or row[3].startswith(metric.documentation.rstrip("."))


@pytest.mark.parametrize(
    "name", ["deploy/grafana/dashboards/communications.json", "deploy/alerts.yml"]
)
def test_dashboard_and_alerts_ask_for_metrics_that_exist(name: str) -> None:
    known = {exposed_name(metric) for metric in collected()}
    asked = set(re.findall(r"\bcomms_[a-z_]+", text(name)))
    assert asked
    assert {_without_suffix(word, known) for word in asked} <= known


def _without_suffix(word: str, known: Iterable[str]) -> str:
    if word in known:
        return word
    return next((word.removesuffix(end) for end in DERIVED if word.endswith(end)), word)


def test_settings_names_every_variable_that_the_code_reads() -> None:
    sources = [
        path
        for folder in ("comms", "consumers", "producer", "audit")
        for path in (ROOT / folder).rglob("*.py")
    ]
    read_there = {
        word
        for path in sources
        for word in re.findall(r'"(COMMS_[A-Z_]+[A-Z])"', path.read_text(encoding="utf-8"))
    }
    assert "COMMS_DATABASE_URL" in read_there
    assert read_there <= set(re.findall(r"COMMS_[A-Z_]+[A-Z]", text("docs/settings.md")))


def test_settings_names_every_key_of_a_channel_and_its_default() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(text("docs/settings.md"))}
    channel, retry = ChannelSettings(), RetryPolicy()
    for key in ChannelSettings.model_fields:
        assert key in {"retry", "routing"} or key in table
    assert float(table["concurrency"]) == channel.concurrency
    assert float(table["call_timeout_seconds"]) == channel.call_timeout_seconds
    assert json.loads(table["on_doubt"].strip("`")) == channel.on_doubt
    for key in RetryPolicy.model_fields:
        assert float(table[f"retry.{key}"]) == getattr(retry, key)
    for key in RoutingPolicy.model_fields:
        assert float(table[f"routing.{key}"]) == getattr(channel.routing, key)


def test_settings_names_every_option_of_the_simulator_and_its_default() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(text("docs/settings.md"))}
    options = read(load({}))
    whole = {key.name: getattr(options, key.name) for key in fields(SimulatorOptions)}
    manners = next(iter(whole.pop("manners").values()))
    assert whole.pop("journal") is None
    assert "journal" in table
    whole |= manners.model_dump()
    assert {name: float(table[name]) for name in whole} == whole


def test_content_lists_exactly_the_countries_without_names() -> None:
    (line,) = (line for line in text("docs/content.md").splitlines() if line.startswith("`AR`"))
    assert line.split() == [f"`{country}`" for country in sorted(COUNTRIES_WITHOUT_SENDER_NAMES)]


def test_front_door_gives_the_first_bytes_of_every_message() -> None:
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(text("docs/front-door.md"))}
    for kind, file in FILE_OF.items():
        if kind is not StatusEvent:
            assert bytes.fromhex(table[file]) == SINGLE_OBJECT + fingerprint_of(schema_of(kind))


def test_front_door_example_writes_what_consumers_read() -> None:
    found = re.search(r"```python\n(.*?)```", text("docs/front-door.md"), re.DOTALL)
    assert found is not None
    scope: dict[str, Any] = {}
    exec(found[1], scope)  # noqa: S102 - our own page
    encode = cast("Callable[..., tuple[bytes, bytes]]", scope["encode"])
    message_id, before = new_message_id(), datetime.now(UTC)

    key, value = encode(source_of(SmsMessage), str(message_id), "+12025550100", "Good morning")

    message = Codec().decode(value, SmsMessage)
    assert (message.id, message.to, message.body) == (message_id, "+12025550100", "Good morning")
    assert message.key.encode() == key
    assert before <= message.created_at <= datetime.now(UTC)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    dead = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert dead == []


def test_the_kafka_that_is_tested_is_the_one_that_compose_deploys() -> None:
    image = yaml.safe_load(text("docker-compose.yml"))["services"]["kafka"]["image"]
    assert f"<kafka.version>{image.partition(':')[2]}</" in text("tests/apache/pom.xml")


def test_compose_runs_services_that_exist_and_waits_for_what_they_need() -> None:
    services = yaml.safe_load(text("docker-compose.yml"))["services"]
    run = {item["command"][1] for item in services.values() if item.get("command")}
    assert run <= set(SERVICES)
    assert {"app", "relay", "audit", "sms", "email", "push", "voice", "simulator"} <= run
    for item in services.values():
        assert set(item.get("depends_on", ())) <= set(services)


def test_example_settings_are_good_settings() -> None:
    settings = load({"COMMS_CONFIG": str(ROOT / "deploy/comms.toml")})
    assert all(channel.providers for channel in settings.channels.values())
    assert read(settings).manners
