"""The supervisor of the one-machine stack: keeps children running and stops them in order.

`comms.stack.up` adds children stage by stage, waits for them with `wait_for`, then calls `run`,
which watches them until `stop` is called. A child that ends is restarted after a growing delay,
with a line on the terminal. Stages stop from the highest to the lowest; the children of a stage
stop together, and each is killed if it does not stop in time.

Only `stop` may be called from another thread than the one that starts children.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from comms.stack.errors import EngineError, StackError
from comms.stack.process import Program, end, last_error_line, launch, rotate

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
STABLE_SECONDS = 30.0
DRAIN_SECONDS = 20.0
_POLL_SECONDS = 0.1
_MAX_EXITS_AT_START = 3


@dataclass(frozen=True, kw_only=True)
class Child:
    """A program to keep running.

    Args:
        stage: higher stages stop first.
        on_restart: called on a thread of its own after each restart.
    """

    program: Program
    stage: int
    on_restart: Callable[[], None] | None = None


@dataclass(kw_only=True)
class _ChildState:
    child: Child
    process: subprocess.Popen[bytes]
    started: float
    delay: float = FIRST_DELAY
    restart_at: float | None = None
    exits: int = 0


class Supervisor:
    """Starts, watches, restarts and stops children.

    Args:
        report: called with a line for a person whenever a child ended or was restarted.
    """

    def __init__(self, *, report: Callable[[str], None]) -> None:
        self._report = report
        self._children: dict[str, _ChildState] = {}
        self._stopping = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Make `run` and `wait_for` return; safe in a signal handler and on any thread."""
        self._stopping.set()

    def start(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        rotate(child.program.log)
        self._children[child.program.name] = _ChildState(
            child=child, process=launch(child.program), started=time.monotonic()
        )

    def process_of(self, name: str) -> subprocess.Popen[bytes]:
        """Return the current process of a child."""
        return self._children[name].process

    def run(self) -> None:
        """Watch the children until `stop` is called."""
        while not self._stopping.wait(_POLL_SECONDS):
            self._check_children()

    def wait_for(self, condition: Callable[[], bool], *, what: str, seconds: float) -> bool:
        """Watch the children until the condition holds.

        Returns:
            False if `stop` was called first.

        Raises:
            StackError: the condition did not hold in time, or a child keeps exiting.
        """
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set():
            if condition():
                return True
            self._check_children()
            self._raise_if_crash_looping()
            if time.monotonic() > deadline:
                raise StackError(f"{what} did not start within {seconds:.0f} s")
            self._stopping.wait(_POLL_SECONDS)
        return False

    def shut_down(self, *, grace: float = DRAIN_SECONDS) -> None:
        """Stop every child: the highest stage first, and in a stage the last started first."""
        stages = {state.child.stage for state in self._children.values()}
        for stage in sorted(stages, reverse=True):
            self._stop_stage(stage, grace=grace)
        self._children.clear()

    def _stop_stage(self, stage: int, *, grace: float) -> None:
        running = [
            state
            for state in reversed(self._children.values())
            if state.child.stage == stage and state.process.poll() is None
        ]
        for state in running:
            state.process.send_signal(state.child.program.stop_signal)
        deadline = time.monotonic() + grace
        for state in running:
            self._wait_or_kill(state, seconds=max(0.0, deadline - time.monotonic()))

    def _wait_or_kill(self, state: _ChildState, *, seconds: float) -> None:
        try:
            state.process.wait(seconds)
        except subprocess.TimeoutExpired:
            program = state.child.program
            self._report(f"{program.name} did not stop in time and was killed")
            end(state.process, with_signal=program.stop_signal, grace=0)

    def _check_children(self) -> None:
        now = time.monotonic()
        for state in self._children.values():
            if state.restart_at is None:
                self._schedule_restart_if_ended(state, now)
            elif now >= state.restart_at:
                self._restart(state, now)

    def _schedule_restart_if_ended(self, state: _ChildState, now: float) -> None:
        code = state.process.poll()
        if code is None:
            return
        state.exits += 1
        if now - state.started >= STABLE_SECONDS:
            state.delay = FIRST_DELAY
        state.restart_at = now + state.delay
        program = state.child.program
        self._report(
            f"{program.name} ended ({_describe_exit(code)}) and restarts in {state.delay:g} s; "
            f"its log: {program.log}"
        )
        state.delay = min(state.delay * 2, LONGEST_DELAY)

    def _restart(self, state: _ChildState, now: float) -> None:
        state.process = launch(state.child.program)
        state.started = now
        state.restart_at = None
        self._report(f"{state.child.program.name} was restarted")
        if state.child.on_restart is not None:
            threading.Thread(target=self._call_hook, args=(state.child,), daemon=True).start()

    def _call_hook(self, child: Child) -> None:
        try:
            if child.on_restart is not None:
                child.on_restart()
        except StackError as error:
            self._report(f"{child.program.name}: {error}")

    def _raise_if_crash_looping(self) -> None:
        for state in self._children.values():
            if state.exits >= _MAX_EXITS_AT_START:
                program = state.child.program
                raise EngineError(
                    f"{program.name} keeps exiting: {last_error_line(program.log)}; "
                    f"its log: {program.log}"
                )


def _describe_exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
