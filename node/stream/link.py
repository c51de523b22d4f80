"""`rill:` links: the name of a content and who sells it.

`rill:ROOT/ID@HOST:PORT/ID@HOST:PORT`, where ROOT is the pieces root in hex and every ID the key of
a provider's node. Nothing in it needs quoting in a shell.
"""

import re

from msgspec import Struct

from wire.crypto.secp256k1 import Point, is_point

_ROOT = re.compile(r"[0-9a-f]{64}")
_PROVIDER = re.compile(r"(0[23][0-9a-f]{64})@(.{1,255}):([0-9]{1,5})")
MOST_PROVIDERS = 16


class NotALink(ValueError):
    """The text is no `rill:` link."""

    def __init__(self, text: str, why: str) -> None:
        self.text, self.why = text, why
        super().__init__(f"{text[:80]!r} is no link to a content: {why}")


class Address(Struct, frozen=True, order=True):
    """A provider's node, and where it listens."""

    node_id: Point
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.node_id.hex()}@{host}:{self.port}"


class Link(Struct, frozen=True):
    """A content, and nodes that sell it."""

    root: bytes
    providers: tuple[Address, ...]

    def __str__(self) -> str:
        return "/".join([f"rill:{self.root.hex()}", *map(str, self.providers)])


def read_link(text: str) -> Link:
    """The link in a text.

    Raises:
        NotALink: there is none.
    """
    kind, _, rest = text.strip().partition(":")
    root, *providers = rest.split("/")
    if kind.lower() != "rill":
        raise NotALink(text, "it does not begin with rill:")
    if not _ROOT.fullmatch(root.lower()):
        raise NotALink(text, "its root is not 64 hex digits")
    if not 1 <= len(providers) <= MOST_PROVIDERS:
        raise NotALink(text, f"it names {len(providers)} providers, not one to {MOST_PROVIDERS}")
    return Link(bytes.fromhex(root), tuple(dict.fromkeys(read_address(each) for each in providers)))


def read_address(text: str) -> Address:
    """A provider written as ID@HOST:PORT.

    Raises:
        NotALink: it is something else.
    """
    found = _PROVIDER.fullmatch(text.strip())
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise NotALink(text, "a provider is written ID@HOST:PORT")
    node_id = bytes.fromhex(found[1])
    if not is_point(node_id):
        raise NotALink(text, "the provider's id is no key")
    return Address(node_id, found[2].strip("[]"), int(found[3]))
