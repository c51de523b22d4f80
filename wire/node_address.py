"""Where a node can be reached: the address descriptors of BOLT 7 (node_announcement) and init.

An address is a value with the text that people use for it. What follows an unknown type cannot be
split, so it stays together as one value.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, TypeAlias

import msgspec

from wire.codec import DecodeError, Truncated

ONION_SUFFIX = ".onion"


class BadHostname(DecodeError):
    """A host name descriptor holds something that is no ASCII text, or nothing."""

    def __init__(self, hostname: bytes) -> None:
        self.hostname = hostname
        super().__init__(f"{hostname!r} is no host name")


class NotOneAddress(DecodeError):
    """One descriptor was expected, and there is more, or none."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"{count} address descriptors where one belongs")


class Ipv4(msgspec.Struct, frozen=True, gc=False):
    """An IPv4 address in dotted form."""

    TYPE: ClassVar[int] = 1
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Ipv6(msgspec.Struct, frozen=True, gc=False):
    """An IPv6 address in its compressed form, without brackets."""

    TYPE: ClassVar[int] = 2
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}"


class TorV2(msgspec.Struct, frozen=True, gc=False):
    """The 12 bytes of a deprecated Tor v2 service; nobody connects to it."""

    TYPE: ClassVar[int] = 3
    raw: bytes


class TorV3(msgspec.Struct, frozen=True, gc=False):
    """A Tor v3 service, by its name with `.onion`."""

    TYPE: ClassVar[int] = 4
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Dns(msgspec.Struct, frozen=True, gc=False):
    """A host name, in ASCII."""

    TYPE: ClassVar[int] = 5
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Unread(msgspec.Struct, frozen=True, gc=False):
    """A descriptor of an unknown type, and all that came after it."""

    raw: bytes


Address: TypeAlias = Ipv4 | Ipv6 | TorV2 | TorV3 | Dns | Unread

_SIZES = {Ipv4.TYPE: 6, Ipv6.TYPE: 18, TorV2.TYPE: 12, TorV3.TYPE: 37}


def read_addresses(raw: bytes) -> tuple[Address, ...]:
    """The descriptors in a node_announcement's `addresses`.

    Raises:
        Truncated: a descriptor of a known type is cut off.
        BadHostname: a host name is not ASCII.
    """
    addresses: list[Address] = []
    at = 0
    while at < len(raw):
        address, at = _read_address(raw, at)
        addresses.append(address)
    return tuple(addresses)


def read_address(raw: bytes) -> Address:
    """The one descriptor that an init's `remote_addr` holds (init.4).

    Raises:
        DecodeError: there is not exactly one, or it is malformed.
    """
    addresses = read_addresses(raw)
    if len(addresses) != 1:
        raise NotOneAddress(len(addresses))
    return addresses[0]


def _read_address(raw: bytes, at: int) -> tuple[Address, int]:
    type = raw[at]
    if type == Dns.TYPE:
        size = 1 + (raw[at + 1] if at + 1 < len(raw) else 0) + 2
    elif type in _SIZES:
        size = _SIZES[type]
    else:
        return Unread(raw[at:]), len(raw)
    end = at + 1 + size
    if end > len(raw):
        raise Truncated(f"an address descriptor of type {type}")
    return _address(type, raw[at + 1 : end]), end


def _address(type: int, body: bytes) -> Address:
    """A descriptor of a known type from exactly its bytes."""
    host, port = body[:-2], int.from_bytes(body[-2:], "big")
    if type == Ipv4.TYPE:
        return Ipv4(str(IPv4Address(host)), port)
    if type == Ipv6.TYPE:
        return Ipv6(str(IPv6Address(host)), port)
    if type == TorV3.TYPE:
        return TorV3(base64.b32encode(host).decode().lower() + ONION_SUFFIX, port)
    if type == Dns.TYPE:
        return Dns(_hostname(host[1:]), port)
    return TorV2(body)


def _hostname(raw: bytes) -> str:
    if not raw or not raw.isascii():
        raise BadHostname(raw)
    return raw.decode("ascii")


def write_addresses(addresses: Iterable[Address]) -> bytes:
    """The descriptors, in the order given; `announceable` gives the order to announce."""
    return b"".join(map(write_address, addresses))


def write_address(address: Address) -> bytes:
    """One descriptor, its type first."""
    if isinstance(address, Unread):
        return address.raw
    if isinstance(address, TorV2):
        return bytes([TorV2.TYPE]) + address.raw
    return bytes([address.TYPE]) + _host_bytes(address) + address.port.to_bytes(2, "big")


def _host_bytes(address: Ipv4 | Ipv6 | TorV3 | Dns) -> bytes:
    if isinstance(address, Ipv4):
        return IPv4Address(address.host).packed
    if isinstance(address, Ipv6):
        return IPv6Address(address.host).packed
    if isinstance(address, TorV3):
        return base64.b32decode(address.host.removesuffix(ONION_SUFFIX).upper())
    return len(address.host).to_bytes(1, "big") + address.host.encode("ascii")


def announceable(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """What of our addresses a node_announcement may hold, in its order.

    own-announcements.3: ascending by type, at most one host name, no port 0.
    """
    kept: dict[int, list[Address]] = {}
    for address in addresses:
        if isinstance(address, Unread | TorV2) or not address.port:
            continue
        of_type = kept.setdefault(address.TYPE, [])
        if address not in of_type and not (of_type and isinstance(address, Dns)):
            of_type.append(address)
    return tuple(address for _, of_type in sorted(kept.items()) for address in of_type)


# A host name or IPv4 address, or an IPv6 address in brackets, with a port or none; or a bare IPv6 address.
_TEXT = re.compile(
    r"(?:\[([0-9a-f:.]+)\]|([^][\s:/@%]{1,255}))(?::(\d{1,5}))?|([0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*)",
    re.ASCII | re.IGNORECASE,
)


def parse(text: str, default_port: int = 9735) -> Address:
    """The address that a person wrote: `host`, `host:port`, `[ipv6]:port` or a bare IPv6 address.

    Raises:
        BadHostname: it is none of them.
    """
    found = _TEXT.fullmatch(text)
    if not found or not text.isascii() or int(found[3] or 0) > 0xFFFF:
        raise BadHostname(text.encode())
    host, port = found[1] or found[2] or found[4], int(found[3] or default_port)
    if host.endswith(ONION_SUFFIX):
        return _onion(host, port)
    for cls, reader in ((Ipv4, IPv4Address), (Ipv6, IPv6Address)):
        with suppress(ValueError):
            return cls(str(reader(host)), port)
    if ":" in host:
        raise BadHostname(text.encode())
    return Dns(host, port)


def _onion(host: str, port: int) -> TorV3:
    try:
        service = base64.b32decode(host.removesuffix(ONION_SUFFIX).upper())
    except binascii.Error:
        raise BadHostname(host.encode()) from None
    if len(service) != 35:
        raise BadHostname(host.encode())
    return TorV3(host.lower(), port)
