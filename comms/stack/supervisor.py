"""The supervisor of the one-machine stack: keeps children running and stops them in order.

`comms.stack.up` adds children stage by stage, waits for them with `wait_for`, then lets `run` watch
over them until somebody asks to `stop`. A child that ends is started again, loudly, after a growing
delay. Stopping goes from the highest stage to the lowest, all of a stage at once, each bounded.

One thread, the one that starts children, calls everything but `stop`.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from comms.stack.errors import EngineError, StackError
from comms.stack.process import Program, end, last_words, launch, rotate

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
SETTLED_SECONDS = 30.0
DRAIN_SECONDS = 20.0
_LOOK_SECONDS = 0.1
_DEATHS_TOO_MANY = 3


@dataclass(frozen=True, kw_only=True)
class Child:
    """A program to keep running.

    Args:
        stage: higher stages are stopped first.
        on_restart: called on a thread of its own after the program was started again.
    """

    program: Program
    stage: int
    on_restart: Callable[[], None] | None = None


@dataclass(kw_only=True)
class _Kept:
    child: Child
    process: subprocess.Popen[bytes]
    started: float
    delay: float = FIRST_DELAY
    again_at: float | None = None
    deaths: int = field(default=0)


class Supervisor:
    """Starts, watches, restarts and stops children.

    Args:
        report: given a line for a person whenever a child ended or came back.
    """

    def __init__(self, *, report: Callable[[str], None]) -> None:
        self._report = report
        self._kept: dict[str, _Kept] = {}
        self._stopping = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask `run` and `wait_for` to return; safe in a signal handler and on any thread."""
        self._stopping.set()

    def start(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        rotate(child.program.log)
        self._kept[child.program.name] = _Kept(
            child=child, process=launch(child.program), started=time.monotonic()
        )

    def process_of(self, name: str) -> subprocess.Popen[bytes]:
        """The process that runs a child now."""
        return self._kept[name].process

    def run(self) -> None:
        """Watch until asked to stop."""
        while not self._stopping.wait(_LOOK_SECONDS):
            self._look()

    def wait_for(self, true: Callable[[], bool], *, what: str, seconds: float) -> bool:
        """Watch until it is true; False when asked to stop before.

        Raises:
            StackError: it did not become true in time, or a child ends again and again.
        """
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set():
            if true():
                return True
            self._look()
            self._refuse_hopeless()
            if time.monotonic() > deadline:
                raise StackError(f"{what} did not come up within {seconds:.0f} s")
            self._stopping.wait(_LOOK_SECONDS)
        return False

    def shut_down(self, *, grace: float = DRAIN_SECONDS) -> None:
        """Stop every child, highest stage first, the last started of a stage first."""
        for stage in sorted({kept.child.stage for kept in self._kept.values()}, reverse=True):
            self._end_stage(stage, grace=grace)
        self._kept.clear()

    def _end_stage(self, stage: int, *, grace: float) -> None:
        running = [
            kept
            for kept in reversed(self._kept.values())
            if kept.child.stage == stage and kept.process.poll() is None
        ]
        for kept in running:
            kept.process.send_signal(kept.child.program.stop_signal)
        deadline = time.monotonic() + grace
        for kept in running:
            self._see_out(kept, seconds=max(0.0, deadline - time.monotonic()))

    def _see_out(self, kept: _Kept, *, seconds: float) -> None:
        try:
            kept.process.wait(seconds)
        except subprocess.TimeoutExpired:
            program = kept.child.program
            self._report(f"{program.name} did not stop in time and is killed")
            end(kept.process, with_signal=program.stop_signal, grace=0)

    def _look(self) -> None:
        now = time.monotonic()
        for kept in self._kept.values():
            if kept.again_at is None:
                self._notice_end(kept, now)
            elif now >= kept.again_at:
                self._start_again(kept, now)

    def _notice_end(self, kept: _Kept, now: float) -> None:
        code = kept.process.poll()
        if code is None:
            return
        kept.deaths += 1
        if now - kept.started >= SETTLED_SECONDS:
            kept.delay = FIRST_DELAY
        kept.again_at = now + kept.delay
        program = kept.child.program
        self._report(
            f"{program.name} ended ({_ending(code)}), starts again in {kept.delay:g} s; "
            f"its log: {program.log}"
        )
        kept.delay = min(kept.delay * 2, LONGEST_DELAY)

    def _start_again(self, kept: _Kept, now: float) -> None:
        kept.process = launch(kept.child.program)
        kept.started, kept.again_at = now, None
        self._report(f"{kept.child.program.name} was started again")
        if kept.child.on_restart is not None:
            threading.Thread(target=self._after_restart, args=(kept.child,), daemon=True).start()

    def _after_restart(self, child: Child) -> None:
        try:
            if child.on_restart is not None:
                child.on_restart()
        except StackError as error:
            self._report(f"{child.program.name}: {error}")

    def _refuse_hopeless(self) -> None:
        for kept in self._kept.values():
            if kept.deaths >= _DEATHS_TOO_MANY:
                program = kept.child.program
                raise EngineError(
                    f"{program.name} ends again and again: {last_words(program.log)}; "
                    f"its log: {program.log}"
                )


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
