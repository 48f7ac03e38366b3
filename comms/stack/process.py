"""One child process: what to run, how it starts, how it ends.

The engines and the supervisor describe what they run as a `Program` and start it with `launch`.
The output goes to the program's own log file. A child has a process group of its own, so Ctrl-C in
a terminal reaches only the supervisor. On Linux the kernel ends the child when its parent dies, so
even `kill -9` of the parent leaves no process behind.

The kernel watches the *thread* that forked the child: call `launch` from a thread that lives at
least as long as the child should.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from comms.stack.account import SystemAccount
from comms.stack.errors import EngineError

_PR_SET_PDEATHSIG = 1
_LOG_KEPT_BYTES = 10_000_000
_TAIL_BYTES = 4_000
_ERROR_WORDS = re.compile(r"fatal|error|panic", re.IGNORECASE)

# Loaded once in the parent: between fork and exec a child must not import or load anything.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run as a child process.

    Args:
        env: its whole environment, which may hold secrets.
        account: the account to run it as; None for our own.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None = None
    account: SystemAccount | None = None
    stop_signal: Signals = Signals.SIGTERM
    orphan_signal: Signals = Signals.SIGKILL


def launch(program: Program) -> subprocess.Popen[bytes]:
    """Start the program with its output appended to its log, and return at once."""
    program.log.parent.mkdir(parents=True, exist_ok=True)
    account = program.account
    with program.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the argument list is ours
            program.argv,
            env=dict(program.env),
            cwd=program.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            # The order inside the child matters. It enters `cwd` first, so the account need not
            # be able to reach that. It is tied to its parent last, because a change of account
            # clears the signal that the parent's death sends.
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            preexec_fn=_tie_to_parent(program.orphan_signal),  # noqa: PLW1509 - one system call
        )


def _tie_to_parent(orphan_signal: Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    parent = os.getpid()
    prctl = _LIBC.prctl
    number = int(orphan_signal)

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return tie


def end(process: subprocess.Popen[bytes], *, with_signal: Signals, grace: float) -> int:
    """Signal the child to stop, kill its process group after the grace period, and reap it."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            kill_group(process)
    return process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and every process of its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def rotate(log: Path) -> None:
    """Rename a large log, so that a folder used for months keeps at most two of each."""
    if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".1.log"))


def last_error_line(log: Path) -> str:
    """Return the line that explains why a child ended: its last error, otherwise its last line."""
    if not log.exists():
        return "its log is empty"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    errors = [line for line in lines[-5:] if _ERROR_WORDS.search(line)]
    return (errors or lines or ["its log is empty"])[-1].strip()


def free_port() -> int:
    """Find a TCP port of the loopback interface that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(
    process: subprocess.Popen[bytes],
    program: Program,
    *,
    answers: Callable[[], bool],
    timeout: float,
) -> None:
    """Wait until the child answers.

    Raises:
        EngineError: the child ended or did not answer in time; the text quotes its log.
    """
    deadline = time.monotonic() + timeout
    while not answers():
        code = process.poll()
        if code is not None:
            raise EngineError(
                f"{program.name} ended at once ({code}): {last_error_line(program.log)}"
            )
        if time.monotonic() > deadline:
            raise EngineError(
                f"{program.name} did not answer within {timeout:.0f} s: "
                f"{last_error_line(program.log)}"
            )
        time.sleep(0.02)
