"""The tree of commands of `comms`; `comms.cli.main` calls `run`."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from comms.cli import admin, dead_letters, redrive, search, suppressions
from comms.cli.doctor import doctor
from comms.cli.errors import EXPECTED, FAILED, to_line
from comms.cli.send import send
from comms.services import SERVICES, run_service


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Args:
        arguments: the command and its arguments; None for those of the process.
    """
    try:
        application()(list(sys.argv[1:] if arguments is None else arguments), prog_name="comms")
    except EXPECTED as error:
        sys.stderr.write(to_line(error) + "\n")
        sys.exit(FAILED)


def application() -> typer.Typer:
    """Build the tree of commands."""
    app = _group()
    app.callback()(_main_options)
    app.command("up")(admin.start)
    app.command("run")(run_one)
    app.command("send")(send)
    app.command("show")(search.show)
    app.command("find")(search.find)
    app.command("channels")(search.channels)
    app.command("resend")(redrive.resend)
    app.command("resolve")(redrive.resolve)
    app.command("doctor")(doctor)
    for name, group in _groups().items():
        app.add_typer(group, name=name)
    return app


def _groups() -> dict[str, typer.Typer]:
    records = _group("List, show and replay records that could not be processed.")
    records.command("list")(dead_letters.show_all)
    records.command("show")(dead_letters.show)
    records.command("replay")(dead_letters.replay)
    recipients = _group("List and change the recipients that must not receive messages.")
    recipients.command("list")(suppressions.show)
    recipients.command("add")(suppressions.add)
    recipients.command("remove")(suppressions.remove)
    keys = _group("Create, list and revoke API keys.")
    keys.command("create")(admin.create_key)
    keys.command("list")(admin.list_keys)
    keys.command("revoke")(admin.revoke_key)
    database = _group("Manage the database schema.")
    database.command("upgrade")(admin.upgrade_database)
    topics = _group("Manage the Kafka topics.")
    topics.command("apply")(admin.apply_topics)
    schemas = _group("Check the Avro schemas.")
    schemas.command("check")(admin.check_schemas)
    return {
        "dead-letters": records,
        "suppressions": recipients,
        "keys": keys,
        "db": database,
        "topics": topics,
        "schemas": schemas,
    }


def run_one(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE",
            help="app (or producer), relay, audit, receipts, sms, email, push, voice,"
            " simulator or demo.",
        ),
    ],
) -> None:
    """Run one service, as in a deployment, until SIGTERM or Ctrl-C."""
    if name not in SERVICES:
        raise typer.BadParameter(f"{name!r} is not a service; use one of {', '.join(SERVICES)}")
    run_service(name)


def _group(text: str | None = None) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    if text is not None:
        # Without a callback, a group of one command would become that command.
        group.callback(help=text)(lambda: None)
    return group


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"comms {version('communications')}")
        raise typer.Exit


def _main_options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Send SMS, e-mail, push and voice messages, and operate the services that deliver them."""
