"""The documents list what the code has: statuses, reasons, metrics, settings, fingerprints.

The tests read the tables of `docs/` and compare them with the modules that they describe. They also
follow the links of every page, and check the example settings and the compose file.
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
from tests.docs.blocks import ROOT

LINKED_PAGES = sorted((*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")))
HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")  # of the series that Prometheus derives


def text(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def rows(document: str, *, heading: str | None = None) -> list[list[str]]:
    """Return the cells of every table row under a heading, or of the whole document."""
    if heading is not None:
        document = re.split(r"^#+ ", document.split(f"{heading}\n", 1)[1], flags=re.MULTILINE)[0]
    lines = [line for line in document.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def code_words(cell: str) -> set[str]:
    """Return the texts in backticks of a cell."""
    return set(re.findall(r"`([^`]+)`", cell))


def defined_metrics() -> list[Metric]:
    """Return every metric of the module, as Prometheus sees it."""
    collectors = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return [metric for collector in collectors for metric in collector.collect()]


def exposed_name(metric: Metric) -> str:
    """Return the name under which Prometheus sees a metric."""
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def test_lifecycle_lists_every_status_and_its_successors() -> None:
    listed = rows(text("docs/lifecycle.md"), heading="Statuses")
    assert {Status(word): code_words(row[2]) for row in listed for word in code_words(row[0])} == {
        status: set(map(str, after)) for status, after in TRANSITIONS.items()
    }


def test_lifecycle_lists_exactly_the_reasons() -> None:
    listed = [row[0].strip("`") for row in rows(text("docs/lifecycle.md"), heading="Reasons")]
    assert listed == [str(reason) for reason in Reason]


def test_every_reason_has_statuses_that_exist() -> None:
    cells = [row[1] for row in rows(text("docs/lifecycle.md"), heading="Reasons")]
    assert {word for cell in cells for word in cell.split(", ")} <= {*map(str, Status), "any"}


def test_metrics_lists_exactly_the_metrics() -> None:
    listed = {row[0].strip("`") for row in rows(text("docs/metrics.md")) if "comms_" in row[0]}
    assert listed == {exposed_name(metric) for metric in defined_metrics()}


def test_metrics_states_type_and_help_text_of_each_metric() -> None:
    table = {row[0].strip("`"): row for row in rows(text("docs/metrics.md"))}
    for metric in defined_metrics():
        row = table[exposed_name(metric)]
        assert row[1] == ("gauge" if metric.type == "info" else metric.type)
        assert metric.type == "info" or row[3].startswith(metric.documentation.rstrip("."))


@pytest.mark.parametrize(
    "name", ["deploy/grafana/dashboards/communications.json", "deploy/alerts.yml"]
)
def test_dashboard_and_alerts_use_metrics_that_exist(name: str) -> None:
    names = {exposed_name(metric) for metric in defined_metrics()}
    used = set(re.findall(r"\bcomms_[a-z_]+", text(name)))
    assert used
    assert {_without_suffix(series, names) for series in used} <= names


def _without_suffix(series: str, names: Iterable[str]) -> str:
    """Return the name of the metric of a series."""
    if series in names:
        return series
    suffixes = (end for end in HISTOGRAM_SUFFIXES if series.endswith(end))
    return series.removesuffix(next(suffixes, ""))


def test_settings_lists_every_variable_that_the_code_reads() -> None:
    sources = [
        path
        for folder in ("comms", "consumers", "producer", "audit")
        for path in (ROOT / folder).rglob("*.py")
    ]
    variables = {
        variable
        for path in sources
        for variable in re.findall(r'"(COMMS_[A-Z_]+[A-Z])"', path.read_text(encoding="utf-8"))
    }
    assert "COMMS_DATABASE_URL" in variables
    assert variables <= set(re.findall(r"COMMS_[A-Z_]+[A-Z]", text("docs/settings.md")))


def test_settings_lists_every_key_of_a_channel_and_its_default() -> None:
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


def test_settings_lists_every_option_of_the_simulator_and_its_default() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(text("docs/settings.md"))}
    options = read(load({}))
    whole = {key.name: getattr(options, key.name) for key in fields(SimulatorOptions)}
    manners = next(iter(whole.pop("manners").values()))
    assert whole.pop("journal") is None
    assert "journal" in table
    whole |= manners.model_dump()
    assert {name: float(table[name]) for name in whole} == whole


def test_content_lists_exactly_the_countries_without_sender_names() -> None:
    (line,) = (line for line in text("docs/content.md").splitlines() if line.startswith("`AR`"))
    assert line.split() == [f"`{country}`" for country in sorted(COUNTRIES_WITHOUT_SENDER_NAMES)]


def test_front_door_states_the_first_bytes_of_every_record() -> None:
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(text("docs/front-door.md"))}
    for record, file in FILE_OF.items():
        if record is not StatusEvent:
            assert bytes.fromhex(table[file]) == SINGLE_OBJECT + fingerprint_of(schema_of(record))


def test_front_door_example_writes_what_consumers_read() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", text("docs/front-door.md"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(example, namespace)  # noqa: S102 - our own page
    encode = cast("Callable[..., tuple[bytes, bytes]]", namespace["encode"])
    message_id, before = new_message_id(), datetime.now(UTC)

    key, value = encode(source_of(SmsMessage), str(message_id), "+12025550100", "Good morning")

    message = Codec().decode(value, SmsMessage)
    assert (message.id, message.to, message.body) == (message_id, "+12025550100", "Good morning")
    assert message.key.encode() == key
    assert before <= message.created_at <= datetime.now(UTC)


@pytest.mark.parametrize("page", LINKED_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    dead = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert dead == []


def test_compose_deploys_the_version_of_kafka_that_is_tested() -> None:
    image = yaml.safe_load(text("docker-compose.yml"))["services"]["kafka"]["image"]
    assert f"<kafka.version>{image.partition(':')[2]}</" in text("tests/apache/pom.xml")


def test_compose_runs_services_that_exist_and_depends_on_them() -> None:
    services = yaml.safe_load(text("docker-compose.yml"))["services"]
    started = {item["command"][1] for item in services.values() if item.get("command")}
    assert started <= set(SERVICES)
    assert {"app", "relay", "audit", "sms", "email", "push", "voice", "simulator"} <= started
    for item in services.values():
        assert set(item.get("depends_on", ())) <= set(services)


def test_example_settings_are_valid() -> None:
    settings = load({"COMMS_CONFIG": str(ROOT / "deploy/comms.toml")})
    assert all(channel.providers for channel in settings.channels.values())
    assert read(settings).manners
