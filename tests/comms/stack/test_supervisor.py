"""The supervisor: it restarts children that end, waits longer each time, and stops in order."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comms.stack.errors import EngineError, StackError
from comms.stack.process import Program
from comms.stack.supervisor import Child, Supervisor
from tests.comms.stack.processes import is_running
from tests.waiting import wait_for

STOPS_ON_SIGTERM = """
import pathlib, signal, sys, threading
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
pathlib.Path(sys.argv[1] + ".up").touch()
stopped.wait()
with open(sys.argv[2], "a") as order: order.write(sys.argv[3] + "\\n")
"""
IGNORES_SIGTERM = (
    "import pathlib, signal, sys, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
pathlib.Path(sys.argv[1] + '.up').touch(); threading.Event().wait()"
)

MakeChild = Callable[..., Child]


@pytest.fixture
def reports() -> list[str]:
    """The lines that the supervisor reported."""
    return []


@pytest.fixture
def supervisor(reports: list[str]) -> Iterator[Supervisor]:
    """A supervisor without children."""
    supervisor = Supervisor(report=reports.append)
    yield supervisor
    supervisor.shut_down(grace=0)


@pytest.fixture
def make_child(tmp_path: Path) -> MakeChild:
    """Makes children that write their names to `order` when they stop."""

    def make(
        name: str,
        *,
        script: str = STOPS_ON_SIGTERM,
        stage: int = 0,
        on_restart: Callable[[], None] | None = None,
    ) -> Child:
        program = Program(
            name=name,
            argv=(
                sys.executable,
                "-c",
                script,
                str(tmp_path / name),
                str(tmp_path / "order"),
                name,
            ),
            log=tmp_path / "logs" / f"{name}.log",
            env=dict(os.environ),
        )
        return Child(program=program, stage=stage, on_restart=on_restart)

    return make


def test_a_child_that_ends_is_restarted_and_its_hook_runs(
    supervisor: Supervisor, make_child: MakeChild, reports: list[str]
) -> None:
    hook_called = threading.Event()
    supervisor.start(make_child("sms", on_restart=hook_called.set))
    first = supervisor.process_of("sms").pid
    os.kill(first, signal.SIGKILL)
    assert supervisor.wait_for(hook_called.is_set, what="the hook", seconds=10)
    second = supervisor.process_of("sms").pid
    assert second != first
    assert is_running(second)
    assert "sms ended (signal 9) and restarts in 0.2 s" in reports[0]
    assert reports[1] == "sms was restarted"


def test_the_delay_doubles_and_a_crash_loop_ends_the_start(
    supervisor: Supervisor, make_child: MakeChild, reports: list[str]
) -> None:
    supervisor.start(make_child("relay", script="raise SystemExit('COMMS_X: not set')"))
    with pytest.raises(EngineError, match="relay keeps exiting: COMMS_X: not set") as error:
        supervisor.wait_for(lambda: False, what="the services", seconds=30)
    assert "relay.log" in str(error.value)
    delays = [line.split("restarts in ")[1].split(" s;")[0] for line in reports if "ended" in line]
    assert delays == ["0.2", "0.4", "0.8"]


def test_a_condition_that_never_holds_is_an_error(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match="the broker did not start within 0 s"):
        supervisor.wait_for(lambda: False, what="the broker", seconds=0)


def test_stop_ends_every_wait(supervisor: Supervisor) -> None:
    threading.Timer(0.1, supervisor.stop).start()
    assert not supervisor.wait_for(lambda: False, what="nothing", seconds=30)
    supervisor.run()
    assert supervisor.stopping


def test_children_stop_highest_stage_first(
    supervisor: Supervisor, make_child: MakeChild, tmp_path: Path
) -> None:
    for stage, name in enumerate(("engine", "provider", "service")):
        supervisor.start(make_child(name, stage=stage))
    wait_for(lambda: len(list(tmp_path.glob("*.up"))) == 3)
    supervisor.shut_down()
    assert (tmp_path / "order").read_text().split() == ["service", "provider", "engine"]


def test_a_child_that_does_not_stop_is_killed(
    supervisor: Supervisor, make_child: MakeChild, tmp_path: Path, reports: list[str]
) -> None:
    supervisor.start(make_child("stubborn", script=IGNORES_SIGTERM))
    wait_for((tmp_path / "stubborn.up").exists)
    process = supervisor.process_of("stubborn")
    supervisor.shut_down(grace=0.2)
    assert process.returncode == -signal.SIGKILL
    assert reports == ["stubborn did not stop in time and was killed"]


def test_a_child_has_a_process_group_of_its_own(
    supervisor: Supervisor, make_child: MakeChild
) -> None:
    supervisor.start(make_child("sms"))
    pid = supervisor.process_of("sms").pid
    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_a_failing_hook_is_reported(
    supervisor: Supervisor, make_child: MakeChild, reports: list[str]
) -> None:
    def fail() -> None:
        raise StackError("no topics")

    supervisor.start(make_child("broker", on_restart=fail))
    os.kill(supervisor.process_of("broker").pid, signal.SIGKILL)
    assert supervisor.wait_for(
        lambda: "broker: no topics" in reports, what="the report", seconds=10
    )
