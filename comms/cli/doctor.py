"""`comms doctor`: checks what works and what does not, and says how to repair it.

`comms.cli.app` registers the command. Each check is about one thing. A check that depends on one
that failed (topics while no broker answers) is left out.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
import typer
from alembic.script import ScriptDirectory

from comms.cli.errors import FAILED
from comms.cli.output import AsJson, console, plain, print_json
from comms.cli.probing import probe_providers
from comms.client import ApiClient, ClientError, connect
from comms.platform.database import DatabaseError, translate_errors
from comms.platform.kafka import Broker, KafkaFault
from comms.platform.settings import Secret, Settings, SettingsError, load
from schemas import compatibility
from schemas.topics import TOPICS
from schemas.vocabulary import Channel

TIMEOUT_SECONDS = 5.0
_GOOD = frozenset({"live", "simulated", "probed", "configured"})


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Args:
        subject: what was checked.
        ok: whether it works.
        finding: what the check showed.
        remedy: what to do if it does not work.
    """

    subject: str
    ok: bool
    finding: str
    remedy: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the check as `--json` prints it."""
        return {
            "about": self.subject,
            "ok": self.ok,
            "said": self.finding,
            "mend": self.remedy,
        }


def doctor(as_json: AsJson = False) -> None:
    """Check the settings, Kafka, PostgreSQL, topics, schemas, the API and the providers."""
    checks = []
    for check in run_checks():
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        print_json({"ok": all(c.ok for c in checks), "checks": [c.to_json() for c in checks]})
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def run_checks() -> Iterator[Check]:
    """Run the checks one after another, and yield each result at once."""
    try:
        settings = load()
    except SettingsError as error:
        yield Check("settings", False, str(error), "correct this key; the environment comes first")
        return
    yield Check("settings", True, f"read; data folder {settings.data_dir}")
    yield from _check_kafka(settings)
    yield from _check_database(settings)
    yield _check_schemas()
    processes = yield from _check_api(settings)
    unserved = [channel for channel in Channel if not processes.get(channel)]
    yield from _check_providers(settings, unserved)
    yield from _check_simulator(settings)


def _print(check: Check) -> None:
    out = console()
    mark = "[green]✓[/green]" if check.ok else "[bold red]✗[/bold red]"
    out.print(mark, plain(f"{check.subject}: {check.finding}"))
    if check.remedy and not check.ok:
        out.print(" ", plain(f"→ {check.remedy}"))


def _check_kafka(settings: Settings) -> Iterator[Check]:
    try:
        properties = settings.need_kafka()
        partitions = Broker(properties).list_topics(TIMEOUT_SECONDS)
    except SettingsError as error:
        yield Check("Kafka", False, str(error), "set it, or start `comms up`")
        return
    except KafkaFault as error:
        remedy = "check that the broker runs and that this machine can reach its address"
        yield Check("Kafka", False, str(error), remedy)
        return
    yield Check("Kafka", True, f"answers at {properties['bootstrap.servers']}")
    yield _check_topics(partitions)


def _check_topics(partitions: Mapping[str, int]) -> Check:
    missing = [topic.name for topic in TOPICS if topic.name not in partitions]
    if missing:
        return Check("topics", False, f"missing: {', '.join(missing)}", "run `comms topics apply`")
    too_few = [topic.name for topic in TOPICS if partitions[topic.name] < topic.partitions]
    counts = ", ".join(f"{topic.name} {partitions[topic.name]}" for topic in TOPICS)
    return Check(
        "topics",
        not too_few,
        f"partitions: {counts}",
        f"{', '.join(too_few)}: fewer partitions than planned, so fewer consumers can share the"
        " work; add partitions with your broker's tools",
    )


def _check_database(settings: Settings) -> Iterator[Check]:
    try:
        url = settings.need_database()
        with (
            translate_errors(),
            psycopg.connect(url, connect_timeout=int(TIMEOUT_SECONDS)) as connection,
        ):
            version = str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
            applied = _applied_version(connection)
    except SettingsError as error:
        yield Check("PostgreSQL", False, str(error), "set it, or start `comms up`")
        return
    except DatabaseError as error:
        remedy = "check that the server runs and that user and password are right"
        yield Check("PostgreSQL", False, str(error), remedy)
        return
    yield Check("PostgreSQL", True, f"answers, version {version}")
    folder = files("comms.platform").joinpath("migrations")
    newest = ScriptDirectory(str(folder)).get_current_head()
    yield Check(
        "database schema",
        applied == newest,
        f"version {applied or 'none'}, newest is {newest}",
        "run `comms db upgrade`",
    )


def _applied_version(connection: psycopg.Connection) -> str | None:
    table = connection.execute("SELECT to_regclass('comms.schema_version')").fetchone()
    if table is None or table[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM comms.schema_version").fetchone()
    return None if row is None else str(row[0])


def _check_schemas() -> Check:
    report = compatibility.check()
    finding = "; ".join(map(str, report.findings)) or (
        f"{report.schemas} compatible with published versions {', '.join(report.versions)}"
    )
    remedy = "undo the change, or only add optional fields"
    return Check("Avro schemas", not report.findings, finding, remedy)


def _check_api(settings: Settings) -> Generator[Check, None, Mapping[str, int]]:
    """Check the API and the channels it reports; return the number of processes by channel."""
    try:
        with connect(settings, seconds=TIMEOUT_SECONDS) as client:
            document = client.get("/v1/channels")
    except SettingsError as error:
        yield Check("API", False, str(error), "create a key with `comms keys create`")
        return {}
    except ClientError as error:
        remedy = (
            "check that the application runs (`comms run app`), that COMMS_URL is its address and"
            " COMMS_API_KEY a valid key"
        )
        yield Check("API", False, str(error), remedy)
        return {}
    yield Check("API", True, f"answers at {settings.api_url}")
    for channel in document["items"]:
        name, readiness, problem = channel["channel"], channel["readiness"], channel["problem"]
        providers = ", ".join(_describe(p, problem) for p in channel["providers"])
        finding = "; ".join(filter(None, (readiness, problem, providers)))
        yield Check(name, readiness in _GOOD, finding, _remedy(name, channel["consumers"]))
    return {channel["channel"]: channel["consumers"] for channel in document["items"]}


def _check_providers(settings: Settings, channels: Sequence[Channel]) -> Iterator[Check]:
    """Probe the providers of channels without a process from this machine."""
    for result in probe_providers(settings, channels):
        subject = f"{result.channel} by {result.provider}"
        remedy = f"check [[{result.channel}.providers]] in comms.toml; see docs/providers.md"
        yield Check(subject, result.problem is None, result.finding, remedy)


def _describe(provider: Mapping[str, Any], channel_problem: str | None) -> str:
    """Describe a provider's readiness; its evidence unless the channel's problem says the same."""
    text, evidence = f"{provider['name']} {provider['readiness']}", provider.get("evidence")
    return text if evidence is None or evidence == channel_problem else f"{text} ({evidence})"


def _remedy(channel: str, consumers: int) -> str:
    if not consumers:
        return f"start its consumer: `comms run {channel}`"
    return f"check [[{channel}.providers]] in comms.toml; see `comms channels`"


def _check_simulator(settings: Settings) -> Iterator[Check]:
    simulated = [
        str(channel)
        for channel, table in settings.channels.items()
        if any(provider.type == "simulated" for provider in table.providers)
    ]
    if not simulated:
        return
    try:
        with ApiClient(settings.simulator_url, Secret(""), seconds=TIMEOUT_SECONDS) as client:
            client.get("/healthz")
    except ClientError as error:
        yield Check("simulated provider", False, str(error), "start it: `comms run simulator`")
    else:
        finding = f"answers at {settings.simulator_url}, serves {', '.join(simulated)}"
        yield Check("simulated provider", True, finding)
