"""Files as the source and the sink of a content.

Reads and writes go to the page cache in the owner's task: a chunk takes tens of microseconds,
less than handing it to a thread and waking up again.
"""

import errno
import os
import shutil
from pathlib import Path
from types import TracebackType


class FileSource:
    """A file that is read in place, never as a whole; leaving its `with` block closes it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.length = os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes, or fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "FileSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FileSink:
    """A file that grows in any order, and takes its name when it is whole.

    Until `finish` it stands beside its place as `.<name>.part`, and leaving the `with` block without
    having called that removes it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at an offset."""
        _write_all(self._descriptor, offset, content)

    def finish(self) -> None:
        """Everything is written: be the file."""
        self._part.replace(self._path)

    def __enter__(self) -> "FileSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self._part.unlink(missing_ok=True)


class PartFile:
    """A file that is put together in any order and read meanwhile; it stays when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    @property
    def length(self) -> int:
        """Up to where something was written."""
        return os.fstat(self._descriptor).st_size

    def sync(self) -> None:
        """Return once what was written is on the disk."""
        os.fdatasync(self._descriptor)

    def move(self, path: Path) -> None:
        """Be this file from now on; an other one of that name is replaced."""
        try:
            self.path.replace(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(self.path, path)
            self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.path = path

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes, or fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at an offset."""
        _write_all(self._descriptor, offset, content)


def _write_all(descriptor: int, offset: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
