"""The signed bytes behind the graph, as they came, for those who ask us (BOLT 7, rebroadcasting).

The graph holds what a message means, this what it was. A signature also covers fields that we
cannot read, so only the bytes themselves can be passed on.
"""

from functools import lru_cache

from gossip.graph import directed
from gossip.validation import DONT_FORWARD
from wire.crypto.secp256k1 import Point

# In channel_update, behind signature and chain_hash.
_SHORT_CHANNEL_ID = slice(98, 106)
_TIMESTAMP = slice(106, 110)
_MESSAGE_FLAGS = 110


def is_public(update: bytes, short_channel_id: int) -> bool:
    """Whether an update may be passed on: neither for us alone nor naming the channel by an alias."""
    is_named_so = int.from_bytes(update[_SHORT_CHANNEL_ID], "big") == short_channel_id
    return is_named_so and not update[_MESSAGE_FLAGS] & DONT_FORWARD


def update_timestamp(update: bytes) -> int:
    """When this update was made."""
    return int.from_bytes(update[_TIMESTAMP], "big")


@lru_cache(maxsize=1 << 17)
def update_checksum(update: bytes) -> int:
    """CRC32C of an update without signature and timestamp: equal if nothing but those changed.

    Remembered, for a short query may ask for those of the whole network, again and again.
    """
    return crc32c(update[66:106] + update[_MESSAGE_FLAGS:])


class Archive:
    """The last announcement and updates of each channel, and the last announcement of each node."""

    def __init__(self) -> None:
        self.announcements: dict[int, bytes] = {}
        self.updates: dict[int, bytes] = {}
        self.nodes: dict[Point, bytes] = {}
        self._ascending: list[int] | None = None

    def keep_announcement(self, short_channel_id: int, raw: bytes) -> None:
        """Keep a channel's announcement."""
        self.announcements[short_channel_id] = raw
        self._ascending = None

    def forget_channel(self, short_channel_id: int) -> None:
        """Drop a channel's announcement and updates."""
        if self.announcements.pop(short_channel_id, None) is not None:
            self._ascending = None
        for direction in (0, 1):
            self.updates.pop(directed(short_channel_id, direction), None)

    def ascending(self) -> list[int]:
        """All announced channels by place in the chain; sorted when first asked after a change."""
        if self._ascending is None:
            self._ascending = sorted(self.announcements)
        return self._ascending

    def public_update(self, short_channel_id: int, direction: int) -> bytes | None:
        """The last update of one direction, if others may see it."""
        raw = self.updates.get(directed(short_channel_id, direction))
        return raw if raw is not None and is_public(raw, short_channel_id) else None

    def public_updates(self, short_channel_id: int) -> list[bytes]:
        """What others may see of a channel's updates, `node_id_1` first."""
        both = (self.public_update(short_channel_id, direction) for direction in (0, 1))
        return [raw for raw in both if raw is not None]

    def is_shown(self, short_channel_id: int) -> bool:
        """Whether a channel can be passed on: announced, with an update (BOLT 7, timestamp filter)."""
        return short_channel_id in self.announcements and bool(self.public_updates(short_channel_id))


def crc32c(octets: bytes, before: int = 0) -> int:
    """The checksum of RFC 3720, appendix B.4 (Castagnoli's polynomial, reflected).

    `before` is that of what comes before these octets.
    """
    rest = before ^ 0xFFFFFFFF
    for octet in octets:
        rest = _CRC32C[(rest ^ octet) & 0xFF] ^ rest >> 8
    return rest ^ 0xFFFFFFFF


def _crc32c_of_octet(rest: int) -> int:
    for _ in range(8):
        rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
    return rest


_CRC32C = tuple(map(_crc32c_of_octet, range(256)))
