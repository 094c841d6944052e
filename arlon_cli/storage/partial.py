"""Files that appear whole: written under a temporary name beside their place, then renamed."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from arlon_cli.errors import ArlonError

try:
    import fcntl
except ImportError:  # Windows, where nothing tells a leftover from a file at work: leftovers stay
    fcntl = None  # type: ignore[assignment]


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A new, empty file beside `path`, to be written and renamed; gone when the block ends, and so are leftovers.

    While the block runs, the process holds a lock on the file; a file without one was left behind by a process that
    was killed. Raises OSError.
    """
    remove_leftovers(path.parent)
    temporary, descriptor = _create(path)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all. Raises OSError."""
    with partial_file(path) as temporary:
        temporary.write_bytes(content)
        temporary.replace(path)


def put(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a whole file its name. Raises OSError, and ArlonError where another one has it by now and is to stay."""
    try:
        if not overwrite:
            os.link(temporary, path)  # unlike a rename, not over a file that is there
            return
    except OSError as error:  # there is one, or the file system has no links
        if path.exists():
            raise ArlonError(
                f"{path} was not there before, and is kept; the same command with another -o goes on from the store."
            ) from error
    temporary.replace(path)


def remove_leftovers(folder: Path) -> None:
    """Remove the partial files in a folder that no process is writing."""
    if fcntl is None:
        return
    for path in folder.glob(".arlon-*"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while somebody holds it
                path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _create(path: Path) -> tuple[Path, int]:
    while True:
        temporary = path.with_name(f".arlon-{uuid.uuid4().hex}{path.suffix}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # nobody took it for a leftover before it was locked
            return temporary, descriptor
        os.close(descriptor)
