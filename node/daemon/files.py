"""Files that are replaced as a whole, so that a crash leaves the old one or the new one."""

import os
from pathlib import Path


def replace_file(path: Path, raw: bytes) -> None:
    """Put these bytes in the place of the file, readable by its owner alone, so that it is never half."""
    fresh = path.with_name(path.name + ".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        # the new name is durable with its directory
        os.fsync(directory)
    finally:
        os.close(directory)
