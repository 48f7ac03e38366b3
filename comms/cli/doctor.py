"""`comms doctor`: what works, what does not, and how to mend it.

Each check answers for one thing and says its sentence; a check whose footing is gone (topics while
no broker answers) is left out rather than failed a second time.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import psycopg
import typer
from alembic.script import ScriptDirectory

from comms.cli.errors import FAILED
from comms.cli.output import AsJson, console, plain, print_json
from comms.cli.probing import probed
from comms.client import ApiClient, ClientError, connect
from comms.platform.database import DatabaseError, translated
from comms.platform.kafka import Broker, KafkaFault
from comms.platform.settings import Secret, Settings, SettingsError, load
from schemas import compatibility
from schemas.topics import TOPICS
from schemas.vocabulary import Channel

SECONDS = 5.0
_FINE = frozenset({"live", "simulated", "probed", "configured"})


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Args:
        about: what; ok: whether it works; said: what was found.
        mend: what to do where it does not.
    """

    about: str
    ok: bool
    said: str
    mend: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Check Kafka, PostgreSQL, topics, schemas, the API and the providers."""
    checks = []
    for check in examine():
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        print_json({"ok": all(c.ok for c in checks), "checks": [asdict(c) for c in checks]})
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def examine() -> Iterator[Check]:
    """Every check, each as it is done."""
    try:
        settings = load()
    except SettingsError as error:
        yield Check("settings", False, str(error), "correct that key; the environment wins")
        return
    yield Check("settings", True, f"read; data folder {settings.data_dir}")
    yield from _kafka(settings)
    yield from _database(settings)
    yield _schemas()
    channels = yield from _api(settings)
    silent = [channel for channel in Channel if not channels.get(channel)]
    yield from _providers(settings, silent)
    yield from _simulator(settings)


def _print(check: Check) -> None:
    out = console()
    mark = "[green]✓[/green]" if check.ok else "[bold red]✗[/bold red]"
    out.print(mark, plain(f"{check.about}: {check.said}"))
    if check.mend and not check.ok:
        out.print(" ", plain(f"→ {check.mend}"))


def _kafka(settings: Settings) -> Iterator[Check]:
    try:
        properties = settings.need_kafka()
        found = Broker(properties).topic_names(SECONDS)
    except SettingsError as error:
        yield Check("Kafka", False, str(error), "set it, or start `comms up`")
        return
    except KafkaFault as error:
        yield Check(
            "Kafka", False, str(error), "is the broker up, and is its address reachable from here?"
        )
        return
    yield Check("Kafka", True, f"answers at {properties['bootstrap.servers']}")
    missing = [topic.name for topic in TOPICS if topic.name not in found]
    if missing:
        yield Check("topics", False, f"missing: {', '.join(missing)}", "run `comms topics apply`")
        return
    narrow = [t.name for t in TOPICS if found[t.name] < t.partitions]
    counts = ", ".join(f"{t.name} {found[t.name]}" for t in TOPICS)
    yield Check(
        "topics",
        not narrow,
        f"partitions: {counts}",
        f"fewer partitions than planned bound the consumers that share {', '.join(narrow)};"
        " add partitions with your broker's tools",
    )


def _database(settings: Settings) -> Iterator[Check]:
    try:
        url = settings.need_database()
        with translated(), psycopg.connect(url, connect_timeout=int(SECONDS)) as connection:
            version = str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
            applied = _applied(connection)
    except SettingsError as error:
        yield Check("PostgreSQL", False, str(error), "set it, or start `comms up`")
        return
    except DatabaseError as error:
        yield Check(
            "PostgreSQL", False, str(error), "is the server up, and are user and password right?"
        )
        return
    yield Check("PostgreSQL", True, f"answers, version {version}")
    folder = files("comms.platform").joinpath("migrations")
    newest = ScriptDirectory(str(folder)).get_current_head()
    yield Check(
        "database schema",
        applied == newest,
        f"at {applied or 'nothing'}, newest is {newest}",
        "run `comms db upgrade`",
    )


def _applied(connection: psycopg.Connection) -> str | None:
    there = connection.execute("SELECT to_regclass('comms.schema_version')").fetchone()
    if there is None or there[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM comms.schema_version").fetchone()
    return None if row is None else str(row[0])


def _schemas() -> Check:
    report = compatibility.check()
    said = "; ".join(map(str, report.findings)) or (
        f"{report.schemas} compatible with published versions {', '.join(report.versions)}"
    )
    return Check("Avro schemas", not report.findings, said, "undo the change, or make it additive")


def _api(settings: Settings) -> Generator[Check, None, Mapping[str, int]]:
    """Returns how many processes each channel has."""
    try:
        with connect(settings, seconds=SECONDS) as client:
            document = client.get("/v1/channels")
    except SettingsError as error:
        yield Check("API", False, str(error), "`comms keys create` makes one")
        return {}
    except ClientError as error:
        yield Check(
            "API",
            False,
            str(error),
            "is the application up (`comms run producer`)? COMMS_URL,"
            " COMMS_API_KEY say where it is and who asks",
        )
        return {}
    yield Check("API", True, f"answers at {settings.api_url}")
    for channel in document["items"]:
        name, readiness = channel["channel"], channel["readiness"]
        providers = ", ".join(_provider(p, channel["problem"]) for p in channel["providers"])
        said = "; ".join(filter(None, (readiness, channel["problem"], providers)))
        yield Check(name, readiness in _FINE, said, _mend_channel(name, channel["consumers"]))
    return {channel["channel"]: channel["consumers"] for channel in document["items"]}


def _providers(settings: Settings, channels: Sequence[Channel]) -> Iterator[Check]:
    """Asked from here where no process of their channel speaks of them."""
    for found in probed(settings, channels):
        about = f"{found.channel} by {found.provider}"
        mend = f"look at [[{found.channel}.providers]] in comms.toml, and docs/providers.md"
        yield Check(about, found.problem is None, found.said, mend)


def _provider(said: Mapping[str, Any], told: str | None) -> str:
    """A provider and its readiness, with the evidence; the channel's own problem stands there
    already."""
    word, evidence = f"{said['name']} {said['readiness']}", said.get("evidence")
    return word if evidence is None or evidence == told else f"{word} ({evidence})"


def _mend_channel(name: str, consumers: int) -> str:
    if not consumers:
        return f"start its consumer: `comms run {name}`"
    return f"look at [[{name}.providers]] in comms.toml and at `comms channels`"


def _simulator(settings: Settings) -> Iterator[Check]:
    simulated = [
        str(channel)
        for channel, table in settings.channels.items()
        if any(provider.type == "simulated" for provider in table.providers)
    ]
    if not simulated:
        return
    try:
        with ApiClient(settings.simulator_url, Secret(""), seconds=SECONDS) as client:
            client.get("/healthz")
    except ClientError as error:
        yield Check("simulated provider", False, str(error), "start it: `comms run simulator`")
    else:
        said = f"answers at {settings.simulator_url}, serves {', '.join(simulated)}"
        yield Check("simulated provider", True, said)
