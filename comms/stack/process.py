"""One child process: what to run, how it starts, how it ends.

The engines and the supervisor describe what they run as a `Program` and start it with `launch`.
Output goes to the program's own log file. A child stands in a process group of its own, so that
Ctrl-C in a terminal reaches only the supervisor, and on Linux the kernel ends it when its parent
dies, so that even `kill -9` leaves nothing behind.

The kernel watches the *thread* that forked the child: call `launch` from a thread that lives as
long as the child shall.
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
_COMPLAINT = re.compile(r"fatal|error|panic", re.IGNORECASE)

# Found once in the parent: between fork and exec a child must not import or load anything.
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
            # The child enters `cwd` before it becomes the account, so the account need not be
            # able to reach it; it becomes the account before it is tied to us, since the kernel
            # forgets that when the account changes.
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            preexec_fn=_tied_to_parent(program.orphan_signal),  # noqa: PLW1509 - one system call
        )


def _tied_to_parent(orphan_signal: Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    parent = os.getpid()
    prctl = _LIBC.prctl
    number = int(orphan_signal)

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)

    return tie


def end(process: subprocess.Popen[bytes], *, with_signal: Signals, grace: float) -> int:
    """Ask the child to stop, kill its group when the grace has passed, and reap it."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            kill_group(process)
    return process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it started in its own group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def rotate(log: Path) -> None:
    """Set a grown log aside, so that a folder used for months keeps at most two of each."""
    if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".1.log"))


def last_words(log: Path) -> str:
    """The line that tells why a child ended: its last complaint, or its last line."""
    if not log.exists():
        return "it wrote nothing"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    complaints = [line for line in lines[-5:] if _COMPLAINT.search(line)]
    return (complaints or lines or ["it wrote nothing"])[-1].strip()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
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
    """Wait until the child answers; its death or the end of the time is an error with its words."""
    deadline = time.monotonic() + timeout
    while not answers():
        code = process.poll()
        if code is not None:
            raise EngineError(f"{program.name} ended at once ({code}): {last_words(program.log)}")
        if time.monotonic() > deadline:
            raise EngineError(
                f"{program.name} did not answer within {timeout:.0f} s: {last_words(program.log)}"
            )
        time.sleep(0.02)
