"""Files as the source and the sink of a content.

Reads and writes go to the page cache in the owner's task: a chunk takes tens of microseconds,
less than handing it to a thread and waking up again.
"""

import os
from pathlib import Path


class FileSource:
    """A file that is read in place, never as a whole."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.length = os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes, or fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class FileSink:
    """A file that grows in any order, and takes its name when it is whole.

    Until then it stands beside its place as `.<name>.part`; `abandon` removes it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at an offset."""
        while content:
            written = os.pwrite(self._descriptor, content, offset)
            content, offset = content[written:], offset + written

    def finish(self) -> None:
        """Everything is written: be the file."""
        os.close(self._descriptor)
        self._part.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        os.close(self._descriptor)
        self._part.unlink(missing_ok=True)
