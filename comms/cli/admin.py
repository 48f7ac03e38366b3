"""Administration: API keys, the database's schema, topics, Avro schemas, and running services."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

import psycopg
import typer

from comms.cli.errors import FAILED, CommandError
from comms.cli.output import AsJson, console, moment, plain, print_json, table
from comms.platform import keys
from comms.platform.database import translated
from comms.platform.kafka import Broker
from comms.platform.settings import load
from comms.platform.upgrading import upgrade
from comms.stack.up import up
from schemas import compatibility


class Mode(StrEnum):
    """What a key may reach: providers, or the simulated one alone."""

    LIVE = "live"
    TEST = "test"


def start(
    port: Annotated[int, typer.Option(help="Of the page and the API.", min=1, max=65535)] = 8080,
    data_dir: Annotated[
        Path, typer.Option(help="Where what must last is kept.", envvar="COMMS_DATA_DIR")
    ] = Path(".comms"),
    demo: Annotated[bool, typer.Option("--demo", help="Feed sample traffic.")] = False,
) -> None:
    """Run the whole system on this machine, until Ctrl-C."""
    up(port=port, data_dir=data_dir, demo=demo)


def create_key(
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
    tenant: Annotated[str, typer.Option(help="Whose it is.")] = "default",
    mode: Annotated[
        Mode, typer.Option(help="test: what is posted with it is simulated, and reaches nobody.")
    ] = Mode.LIVE,
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is shown now and never again."""
    with translated(), psycopg.connect(load().need_database(), autocommit=True) as connection:
        key = keys.create(connection, tenant, name, mode.value)
    if as_json:
        print_json({"key": key, "tenant": tenant, "name": name, "mode": mode.value})
    else:
        typer.echo(key)


def list_keys(as_json: AsJson = False) -> None:
    """Every API key, newest first; never the key itself."""
    with translated(), psycopg.connect(load().need_database(), autocommit=True) as connection:
        found = keys.listed(connection)
    rows = [
        {
            "id": str(key.id),
            "tenant": key.tenant,
            "name": key.name,
            "mode": key.mode,
            "created_at": key.created_at.isoformat(),
            "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
        }
        for key in found
    ]
    if as_json:
        print_json({"items": rows})
        return
    shown = table("id", "tenant", "name", "mode", "created", "revoked")
    for row in rows:
        times = moment(row["created_at"]), moment(row["revoked_at"])
        shown.add_row(row["id"], plain(row["tenant"]), plain(row["name"]), row["mode"], *times)
    console().print(shown)


def revoke_key(
    key_id: Annotated[UUID, typer.Argument(metavar="ID", help="As `comms keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke an API key; it stops working within seconds."""
    with translated(), psycopg.connect(load().need_database(), autocommit=True) as connection:
        if not keys.revoke(connection, key_id):
            raise CommandError(f"there is no key {key_id} in force")
    if as_json:
        print_json({"revoked": str(key_id)})
    else:
        console().print(f"revoked {key_id}")


def upgrade_database() -> None:
    """Bring the database's schema to the newest version."""
    upgrade(load().need_database())
    console().print("The database's schema is the newest.")


def apply_topics(as_json: AsJson = False) -> None:
    """Create the topics that do not exist."""
    created = Broker(load().need_kafka()).apply_topics()
    if as_json:
        print_json({"created": created})
    else:
        console().print(f"created {', '.join(created)}" if created else "All topics exist.")


def check_schemas(as_json: AsJson = False) -> None:
    """Prove that old and new readers survive the schemas, against every published version."""
    report = compatibility.check()
    if as_json:
        findings = [
            {"file": f.file, "version": f.version, "problem": f.problem} for f in report.findings
        ]
        print_json({"schemas": report.schemas, "versions": report.versions, "findings": findings})
    else:
        for finding in report.findings:
            console().print(plain(f"✗ {finding}"))
        if not report.findings:
            versions = ", ".join(report.versions) or "none"
            console().print(f"✓ {report.schemas} schemas, published versions: {versions}")
    if report.findings:
        raise typer.Exit(FAILED)
