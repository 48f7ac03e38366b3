"""A small file system for the database, which the chaos run fills up.

It is a tmpfs, mounted over the database's folder, which needs the right to mount. Without that
right the database is on the machine's own disk, and the run does not fill it.
"""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MB = 1024


class Disk:
    """A file system at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.is_mounted = False

    def mount(self) -> None:
        """Mount it, where that is allowed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        size = f"size={SIZE_MB}m,mode=755"
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self._folder)]
        try:
            done = subprocess.run(command, check=False, capture_output=True)
        except FileNotFoundError:
            return
        self.is_mounted = done.returncode == 0

    def unmount(self) -> None:
        """Unmount it. Its contents are lost."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=False)
            self.is_mounted = False

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Leave no byte free inside the `with` block."""
        filler = self._folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                _fill(file.write)
            yield
        finally:
            filler.unlink()


def _fill(write) -> None:  # type: ignore[no-untyped-def]
    block = bytes(1024 * 1024)
    while block:
        try:
            write(block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            block = block[: len(block) // 2]
