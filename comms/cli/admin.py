"""Administration: the one-machine stack, API keys, the database schema, topics and Avro schemas.

`comms.cli.app` registers these commands. Each loads the settings and works directly on the database
or the broker, not through the API.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

import psycopg
import typer

from comms.cli.errors import FAILED, CommandError
from comms.cli.output import AsJson, console, local_time, plain, print_json, table
from comms.platform import keys
from comms.platform.database import translate_errors
from comms.platform.kafka import Broker
from comms.platform.settings import load
from comms.platform.upgrading import upgrade
from comms.stack.up import up
from schemas import compatibility


class Mode(StrEnum):
    """Whether messages sent with a key go to real providers or to the simulated one."""

    LIVE = "live"
    TEST = "test"


def start(
    port: Annotated[
        int,
        typer.Option(
            help="Port of the page and the API; the other services use the seven ports after it.",
            min=1,
            max=65535,
        ),
    ] = 8080,
    data_dir: Annotated[
        Path,
        typer.Option(
            help="Folder for the database, the API key and the logs.", envvar="COMMS_DATA_DIR"
        ),
    ] = Path(".comms"),
    demo: Annotated[
        bool, typer.Option("--demo", help="Send sample traffic through the simulated providers.")
    ] = False,
) -> None:
    """Run the whole system on this machine until Ctrl-C."""
    up(port=port, data_dir=data_dir, demo=demo)


def create_key(
    name: Annotated[str, typer.Option(help="A description of its use.")] = "command line",
    tenant: Annotated[str, typer.Option(help="The tenant it belongs to.")] = "default",
    mode: Annotated[
        Mode,
        typer.Option(help="With 'test', its messages go to the simulated provider only."),
    ] = Mode.LIVE,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it. It cannot be shown again."""
    with translate_errors(), psycopg.connect(load().need_database(), autocommit=True) as connection:
        key = keys.create(connection, tenant, name, mode=mode.value)
    if as_json:
        print_json({"key": key, "tenant": tenant, "name": name, "mode": mode.value})
    else:
        typer.echo(key)


def list_keys(as_json: AsJson = False) -> None:
    """List the API keys, newest first, without their secrets."""
    with translate_errors(), psycopg.connect(load().need_database(), autocommit=True) as connection:
        records = keys.list_all(connection)
    rows = [
        {
            "id": str(key.id),
            "tenant": key.tenant,
            "name": key.name,
            "mode": key.mode,
            "created_at": key.created_at.isoformat(),
            "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
        }
        for key in records
    ]
    if as_json:
        print_json({"items": rows})
        return
    lines = table("id", "tenant", "name", "mode", "created", "revoked")
    for row in rows:
        times = local_time(row["created_at"]), local_time(row["revoked_at"])
        lines.add_row(row["id"], plain(row["tenant"]), plain(row["name"]), row["mode"], *times)
    console().print(lines)


def revoke_key(
    key_id: Annotated[
        UUID, typer.Argument(metavar="ID", help="The id that `comms keys list` shows.")
    ],
    as_json: AsJson = False,
) -> None:
    """Revoke an API key. It stops working within seconds."""
    with translate_errors(), psycopg.connect(load().need_database(), autocommit=True) as connection:
        if not keys.revoke(connection, key_id):
            raise CommandError(f"there is no active key {key_id}")
    if as_json:
        print_json({"revoked": str(key_id)})
    else:
        console().print(f"revoked {key_id}")


def upgrade_database() -> None:
    """Upgrade the database schema to the newest version."""
    upgrade(load().need_database())
    console().print("The database schema is at the newest version.")


def apply_topics(as_json: AsJson = False) -> None:
    """Create the topics that do not exist yet."""
    created = Broker(load().need_kafka()).apply_topics()
    if as_json:
        print_json({"created": created})
    else:
        console().print(f"created {', '.join(created)}" if created else "All topics exist.")


def check_schemas(as_json: AsJson = False) -> None:
    """Check that the schemas are compatible with every published version."""
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
