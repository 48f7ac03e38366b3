"""All commands of `comms`, put together; `comms.cli.main` runs them."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from comms.cli import admin, dead_letters, redrive, search, suppressions
from comms.cli.doctor import doctor
from comms.cli.errors import EXPECTED, FAILED, line_of
from comms.cli.send import send
from comms.services import SERVICES, run_service


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Args:
        arguments: in place of the process's own.
    """
    try:
        application()(list(sys.argv[1:] if arguments is None else arguments), prog_name="comms")
    except EXPECTED as error:
        sys.stderr.write(line_of(error) + "\n")
        sys.exit(FAILED)


def application() -> typer.Typer:
    """The tree of commands."""
    app = _group("SMS, e-mail, push and voice messages through one reliable layer.")
    app.command("up")(admin.start)
    app.command("run")(run_one)
    app.command("send")(send)
    app.command("show")(search.show)
    app.command("find")(search.find)
    app.command("channels")(search.channels)
    app.command("resend")(redrive.resend)
    app.command("resolve")(redrive.resolve)
    app.command("doctor")(doctor)
    keys = _group("API keys.")
    keys.command("create")(admin.create_key)
    keys.command("list")(admin.list_keys)
    keys.command("revoke")(admin.revoke_key)
    database = _group("The database's schema.")
    database.command("upgrade")(admin.upgrade_database)
    topics = _group("Kafka topics.")
    topics.command("apply")(admin.apply_topics)
    schemas = _group("Avro schemas.")
    schemas.command("check")(admin.check_schemas)
    suppressed = _group("Recipients that must not be reached.")
    suppressed.command("list")(suppressions.show)
    suppressed.command("add")(suppressions.add)
    suppressed.command("remove")(suppressions.remove)
    letters = _group("What no consumer could process.")
    letters.command("list")(dead_letters.show_all)
    letters.command("show")(dead_letters.show)
    letters.command("replay")(dead_letters.replay)
    groups = {
        "dead-letters": letters,
        "suppressions": suppressed,
        "keys": keys,
        "db": database,
        "topics": topics,
        "schemas": schemas,
    }
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def run_one(
    name: Annotated[
        str,
        typer.Argument(
            help="producer, relay, audit, receipts, sms, email, push, voice, simulator or demo."
        ),
    ],
) -> None:
    """Run one service until it is told to stop, as deployed."""
    if name not in SERVICES:
        raise typer.BadParameter(f"no service {name!r}; there are {', '.join(SERVICES)}")
    run_service(name)


def _group(text: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    # Without a callback, a group of one command would become that command.
    group.callback(help=text)(lambda: None)
    return group
