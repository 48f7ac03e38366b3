"""`comms up`: the whole system on this machine, until Ctrl-C.

The command line calls `up`. The engines start first, embedded unless the settings name real ones.
Then come topics, migrations and an API key, then every service as a child of one supervisor. The
data folder keeps the database, the key and the logs. The embedded broker keeps nothing, so its
topics are created at every start.
"""

import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comms.platform.database import DatabaseError
from comms.platform.kafka import Broker, KafkaFault
from comms.platform.settings import Settings, load
from comms.platform.upgrading import upgrade
from comms.stack import folder, services
from comms.stack.broker import EmbeddedBroker
from comms.stack.errors import StackError
from comms.stack.postgres import EmbeddedPostgres
from comms.stack.screen import Screen
from comms.stack.supervisor import Child, Supervisor

_ENGINE, _PROVIDER, _SERVICE, _TRAFFIC = range(4)  # stages: the highest stops first
_ENGINE_SECONDS = 60.0
_SERVICES_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """The parts of one run."""

    data_dir: Path
    settings: Settings
    ports: Mapping[str, int]
    supervisor: Supervisor
    screen: Screen
    started: float


def up(
    *,
    port: int = 8080,
    data_dir: Path,
    demo: bool = False,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run everything until SIGINT or SIGTERM, then drain and stop it.

    Args:
        port: the port of the page and the API; the other services use the seven ports after it.
        data_dir: the folder for the database, the API key and the logs; created if needed.
        demo: whether to send sample traffic through the simulated providers.
        environment: the environment variables; None for those of this process.

    Raises:
        StackError: the stack cannot run; the text is one line that says why.
        SettingsError: a setting is wrong.
    """
    data_dir = data_dir.absolute()
    variables = dict(os.environ if environment is None else environment)
    started = time.monotonic()
    with folder.lock_data_dir(data_dir):
        # The address file of a stack that was killed would look like settings of real engines.
        folder.remove_stack_file(data_dir)
        settings = load({**variables, "COMMS_DATA_DIR": str(data_dir)})
        ports = services.assign_ports(port)
        services.check_ports_free(ports, host=settings.http_host)
        screen = Screen()
        stack = _Stack(
            data_dir=data_dir,
            settings=settings,
            ports=ports,
            supervisor=Supervisor(report=screen.warn),
            screen=screen,
            started=started,
        )
        with _stop_on_signals(stack.supervisor):
            _start_and_watch(stack, demo=demo)


def _start_and_watch(stack: _Stack, *, demo: bool) -> None:
    try:
        _start_all(stack, demo=demo)
        stack.supervisor.run()
    except (DatabaseError, KafkaFault) as error:
        raise StackError(str(error)) from error
    finally:
        stack.screen.info("Stopping …")
        folder.remove_stack_file(stack.data_dir)
        stack.supervisor.shut_down()
        stack.screen.info("Stopped.")


def _start_all(stack: _Stack, *, demo: bool) -> None:
    stack.screen.info("Starting the broker and the database …")
    broker = _start_broker(stack)
    postgres = _start_postgres(stack)
    if not _wait_for_engines(stack, broker, postgres):
        return
    database_url = stack.settings.database_url or _create_database(postgres)
    bootstrap = stack.settings.kafka.get("bootstrap.servers") or _address_of(broker)
    _apply_topics(stack.settings, bootstrap)
    upgrade(database_url)
    key = folder.ensure_api_key(stack.data_dir, database_url)
    addresses = _stack_addresses(stack, database_url, bootstrap)
    environment = _environment(stack, addresses)
    if _start_services(stack, environment):
        folder.write_stack_file(stack.data_dir, addresses)
        if demo:
            _start(stack, services.DEMO, environment, stage=_TRAFFIC)
        stack.screen.show_summary(
            url=addresses["url"],
            key=key,
            data_dir=stack.data_dir,
            seconds=time.monotonic() - stack.started,
        )


def _start_broker(stack: _Stack) -> EmbeddedBroker | None:
    if stack.settings.kafka.get("bootstrap.servers"):
        return None
    broker = EmbeddedBroker(stack.data_dir)

    def recreate_topics() -> None:
        try:
            client = _client(stack.settings, broker.bootstrap_servers)
            client.wait_until_reachable(_ENGINE_SECONDS)
            client.apply_topics()
        except KafkaFault as error:
            raise StackError(f"its topics could not be created again: {error}") from error

    stack.supervisor.start(
        Child(program=broker.program(), stage=_ENGINE, on_restart=recreate_topics)
    )
    return broker


def _start_postgres(stack: _Stack) -> EmbeddedPostgres | None:
    if stack.settings.database_url is not None:
        return None
    postgres = EmbeddedPostgres(stack.data_dir, report=stack.screen.info)
    postgres.prepare()
    stack.supervisor.start(Child(program=postgres.program(), stage=_ENGINE))
    return postgres


def _wait_for_engines(
    stack: _Stack, broker: EmbeddedBroker | None, postgres: EmbeddedPostgres | None
) -> bool:
    def all_answer() -> bool:
        return all(engine is None or engine.answers() for engine in (broker, postgres))

    return stack.supervisor.wait_for(
        all_answer, what="the broker and the database", seconds=_ENGINE_SECONDS
    )


def _create_database(postgres: EmbeddedPostgres | None) -> str:
    if postgres is None:
        raise StackError("no database is configured and none was started")
    postgres.create_database()
    return postgres.url


def _address_of(broker: EmbeddedBroker | None) -> str:
    if broker is None:
        raise StackError("no broker is configured and none was started")
    return broker.bootstrap_servers


def _client(settings: Settings, bootstrap: str) -> Broker:
    return Broker({**settings.kafka, "bootstrap.servers": bootstrap})


def _apply_topics(settings: Settings, bootstrap: str) -> None:
    _client(settings, bootstrap).apply_topics()


def _stack_addresses(stack: _Stack, database_url: str, bootstrap: str) -> dict[str, str]:
    """Return the contents of `stack.toml`, which commands in other terminals read."""
    secret = stack.settings.environment.get("COMMS_SIMULATOR_SECRET")
    return {
        "database_url": database_url,
        "kafka_bootstrap_servers": bootstrap,
        "url": f"http://127.0.0.1:{stack.ports[services.APP]}",
        "simulator_url": f"http://127.0.0.1:{stack.ports[services.SIMULATOR]}",
        "simulator_secret": secret or secrets.token_urlsafe(24),
    }


def _environment(stack: _Stack, addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of every service: the caller's, and the addresses."""
    address_variables = {f"COMMS_{key.upper()}": value for key, value in addresses.items()}
    return {**stack.settings.environment, **address_variables}


def _start_services(stack: _Stack, environment: Mapping[str, str]) -> bool:
    stack.screen.info("Starting the services …")
    for name in services.SERVICES:
        stage = _PROVIDER if name == services.SIMULATOR else _SERVICE
        _start(stack, name, environment, stage=stage)
    readiness = services.ReadinessCheck(stack.ports)
    try:
        return stack.supervisor.wait_for(
            readiness.poll, what="the services", seconds=_SERVICES_SECONDS
        )
    except StackError as error:
        raise StackError(f"{error} (not ready: {', '.join(readiness.pending)})") from error


def _start(stack: _Stack, name: str, environment: Mapping[str, str], *, stage: int) -> None:
    program = services.service_program(
        name, port=stack.ports.get(name), data_dir=stack.data_dir, environment=environment
    )
    stack.supervisor.start(Child(program=program, stage=stage))


@contextmanager
def _stop_on_signals(supervisor: Supervisor) -> Iterator[None]:
    """Stop on SIGINT, SIGTERM and a closed terminal; restore the former handlers afterwards."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: `nohup comms up`
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, lambda *_: supervisor.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
