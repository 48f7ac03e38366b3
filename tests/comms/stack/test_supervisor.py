"""The supervisor: it starts again what dies, waits longer each time, and stops in order."""

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

OBEDIENT = """
import pathlib, signal, sys, threading
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
pathlib.Path(sys.argv[1] + ".up").touch()
over.wait()
with open(sys.argv[2], "a") as order: order.write(sys.argv[3] + "\\n")
"""
DEAF = "import pathlib, signal, sys, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
pathlib.Path(sys.argv[1] + '.up').touch(); threading.Event().wait()"

MakeChild = Callable[..., Child]


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def supervisor(reports: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(report=reports.append)
    yield made
    made.shut_down(grace=0)


@pytest.fixture
def make_child(tmp_path: Path) -> MakeChild:
    def make(
        name: str,
        *,
        script: str = OBEDIENT,
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


def test_a_child_that_dies_comes_back_and_its_hook_runs(
    supervisor: Supervisor, make_child: MakeChild, reports: list[str]
) -> None:
    hooked = threading.Event()
    supervisor.start(make_child("sms", on_restart=hooked.set))
    first = supervisor.process_of("sms").pid
    os.kill(first, signal.SIGKILL)
    assert supervisor.wait_for(hooked.is_set, what="the hook", seconds=10)
    second = supervisor.process_of("sms").pid
    assert second != first
    assert is_running(second)
    assert "sms ended (signal 9), starts again in 0.2 s" in reports[0]
    assert reports[1] == "sms was started again"


def test_the_delay_doubles_and_a_hopeless_child_ends_the_start(
    supervisor: Supervisor, make_child: MakeChild, reports: list[str]
) -> None:
    supervisor.start(make_child("relay", script="raise SystemExit('COMMS_X: not set')"))
    with pytest.raises(EngineError, match="relay ends again and again: COMMS_X: not set") as error:
        supervisor.wait_for(lambda: False, what="the services", seconds=30)
    assert "relay.log" in str(error.value)
    delays = [line.split("again in ")[1].split(" s")[0] for line in reports if "ended" in line]
    assert delays == ["0.2", "0.4", "0.8"]


def test_what_never_comes_up_is_an_error(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match="the broker did not come up within 0 s"):
        supervisor.wait_for(lambda: False, what="the broker", seconds=0)


def test_being_asked_to_stop_ends_every_wait(supervisor: Supervisor) -> None:
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
    supervisor.start(make_child("deaf", script=DEAF))
    wait_for((tmp_path / "deaf.up").exists)
    process = supervisor.process_of("deaf")
    supervisor.shut_down(grace=0.2)
    assert process.returncode == -signal.SIGKILL
    assert reports == ["deaf did not stop in time and is killed"]


def test_a_child_stands_in_a_process_group_of_its_own(
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
