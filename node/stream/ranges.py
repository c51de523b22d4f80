"""The part of a content that a player asks for (RFC 9110, section 14: Range, unit bytes)."""

import re

_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


class Unsatisfiable(Exception):
    """No byte of the content is in the range."""

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"no such part of {length} bytes")


def part_of(header: str | None, length: int) -> range | None:
    """The offsets that a Range header asks for; None if the whole content is to be sent.

    Several ranges at once, or something else than one range of bytes, may be answered with the
    whole, and are.

    Raises:
        Unsatisfiable: the range begins at or after the end, or is a suffix of no byte.
    """
    found = _ONE_RANGE.fullmatch(header or "")
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        part = range(max(0, length - int(last)), length)
    elif last and int(last) < int(first):
        return None
    else:
        part = range(int(first), min(int(last or length - 1), length - 1) + 1)
    if not part:
        raise Unsatisfiable(length)
    return part
