"""Every code block of README.md and docs/ that can be run is run, against a real `comms up`.

The stack is started once for the module, without sample traffic. Its data folder is `.comms` in the
folder in which the blocks run, so that commands and programs find it as a reader's do. The tags of
the blocks are explained in CONTRIBUTING.md.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from comms.platform.kafka import Broker
from comms.platform.settings import load
from consumers import registry
from schemas.topics import DEAD_LETTERS, of_channel
from schemas.vocabulary import Channel, Priority
from tests.comms.stack.running import Running, environment, start
from tests.docs.blocks import (
    ADMINISTRATOR,
    LANGUAGES,
    NOT_RUN,
    OUTPUT,
    PAGES,
    ROOT,
    Block,
    blocks,
    indented_code,
)
from tests.waiting import wait_for

BLOCKS = blocks()
PLACEHOLDERS = ("ID", "FAILED_ID", "UNKNOWN_ID", "DEAD_LETTER_ID")
BLOCK_SECONDS = 120.0
_EXIT_CODE = re.compile(r"^(?P<command>.*?)\s+# exits with (?P<code>\d+)\b.*$", re.MULTILINE)


def of(language: str) -> pytest.MarkDecorator:
    """Parametrize a test with the blocks of a language that are to be run."""
    chosen = [b for b in BLOCKS if b.language == language and b.reason_not_run is None]
    return pytest.mark.parametrize("block", chosen, ids=str)


class Reader:
    """A reader of the pages: a folder, a running stack, and messages to put for placeholders."""

    def __init__(self, folder: Path, running: Running) -> None:
        self.folder = folder
        self._running = running
        self._values: dict[tuple[Path, str], str] = {}
        programs = folder / "bin"
        programs.mkdir()
        self._write_program(programs / "comms", "-m comms")
        self._write_program(programs / "python", "")
        self.environment = {
            **environment(),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    @property
    def database_url(self) -> str:
        """Return the address of the stack's database."""
        return self._running.stack()["database_url"]

    def run(self, arguments: list[str]) -> str:
        """Run a program in the folder and return what it prints; it must exit with 0."""
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def script(self, block: Block) -> str:
        """Return the bash script of a block, with addresses and placeholders filled in."""
        text = block.text.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{self._running.port}")
        for name in PLACEHOLDERS:
            whole = re.compile(rf"\b{name}\b")
            if whole.search(text):
                text = whole.sub(self._value(block.page, name), text)
        text = _EXIT_CODE.sub(r'code=0; \g<command> || code=$?; test "$code" = \g<code>', text)
        return f"set -e -o pipefail\n{text}"

    def _value(self, page: Path, name: str) -> str:
        make: dict[str, Callable[[], str]] = {
            "ID": lambda: self._send("0100", "delivered"),
            "FAILED_ID": lambda: self._send("0101", "failed"),
            "UNKNOWN_ID": lambda: self._send("0105", "unknown", on_doubt="hold"),
            "DEAD_LETTER_ID": self._dead_letter,
        }
        if (page, name) not in self._values:
            self._values[page, name] = make[name]()
        return self._values[page, name]

    def _send(self, ending: str, status: str, **fields: str) -> str:
        """Send a text message, wait until it has a status, and return its id."""
        to = f"+1202555{ending}"
        body = {"channel": "sms", "to": to, "body": "Hello", "customer_id": "customer-17", **fields}
        key = (self.folder / ".comms" / "api-key").read_text().strip()
        code, accepted = self._running.request("POST", "/v1/messages", key=key, body=body)
        assert code == 202, accepted

        def has_status() -> bool:
            _, message = self._running.request("GET", f"/v1/messages/{accepted['id']}", key=key)
            return bool(message["status"] == status)

        wait_for(has_status, seconds=BLOCK_SECONDS, what=f"{status}: a message to {to}")
        return str(accepted["id"])

    def _dead_letter(self) -> str:
        """Produce a record that nothing can decode, and return its id among the dead letters."""
        value, topic = uuid4().bytes, of_channel(Channel.SMS, Priority.NORMAL)
        broker = Broker({"bootstrap.servers": self._running.stack()["kafka_bootstrap_servers"]})
        producer = broker.producer()
        producer.publish_and_wait(topic, key=None, value=value, headers={}, seconds=30.0)
        producer.close()
        ids = list[str]()

        def is_listed() -> bool:
            found = (record for record in broker.records(DEAD_LETTERS) if record.value == value)
            ids[:] = [f"{record.partition}:{record.offset}" for record in found]
            return bool(ids)

        wait_for(is_listed, seconds=BLOCK_SECONDS, what="listed: a dead letter")
        return ids[0]

    @staticmethod
    def _write_program(path: Path, arguments: str) -> None:
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        path.chmod(0o755)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    running = start(folder / ".comms", folder / "up.log")
    try:
        yield Reader(folder, running)
        assert running.interrupt() == 0, running.output()
    finally:
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_tag_is_one_that_we_know(block: Block) -> None:
    modes = {"sql": {ADMINISTRATOR}, "json": {OUTPUT}}.get(block.language, set[str]())
    assert block.language in LANGUAGES
    assert block.mode in {"", *modes} or block.reason_not_run
    assert not block.mode.startswith(NOT_RUN.strip()) or len(block.reason_not_run or "") > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_is_only_indented(page: Path) -> None:
    assert indented_code(page) == []


def test_an_output_follows_the_commands_that_print_it() -> None:
    outputs = [block for block in BLOCKS if block.mode == OUTPUT]
    printing = [block for block in BLOCKS if block.output is not None and block.language == "sh"]
    assert len(outputs) == len(printing)


@of("sh")
def test_commands_work(block: Block, reader: Reader) -> None:
    output = reader.run(["bash", "-c", reader.script(block)])
    if block.output is not None:
        assert json.loads(output) == json.loads(block.output)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=str)
def test_commands_are_bash(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.text], check=True)


@of("python")
def test_programs_run(block: Block, reader: Reader) -> None:
    reader.run([sys.executable, "-W", "error", "-c", block.text])


@of("sql")
def test_queries_run(block: Block, reader: Reader) -> None:
    with psycopg.connect(reader.database_url) as connection:
        if block.mode != ADMINISTRATOR:
            connection.execute("SET ROLE comms_analyst")
        for statement in block.text.split(";\n"):
            connection.execute(sql.SQL(statement))
        connection.rollback()


@of("toml")
def test_settings_are_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "comms.toml"
    file.write_text(block.text, encoding="utf-8")
    settings = load({"COMMS_CONFIG": str(file), "COMMS_DATA_DIR": str(tmp_path)})
    for channel in Channel:
        for provider in settings.channels[channel].providers:
            _, missing = registry.build_or_unconfigured(channel, provider, settings)
            assert missing is None or "not set" in missing
    registry.receipt_parsers(settings)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=str)
def test_toml_can_be_parsed(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=str)
def test_json_can_be_parsed(block: Block) -> None:
    assert json.loads(block.text)
