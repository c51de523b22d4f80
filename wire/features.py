"""Feature bits: what a node, channel or invoice supports or demands (BOLT 9).

A feature has a pair of bits: the even one demands it, the odd one offers it. A set of bits is an
integer underneath, so that asking costs nothing and the minimal encoding comes by itself.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec


class Feature(msgspec.Struct, frozen=True):
    """A row of the table: the even bit, where it may appear, what it cannot do without.

    Contexts: I init, N node_announcement, 9 invoice, T channel type, B blinded path. A feature
    that all nodes are assumed to have lists none, but is still announced in I, N and 9.
    """

    name: str
    bit: int
    contexts: str = ""
    depends_on: tuple[str, ...] = ()
    is_assumed: bool = False


_TABLE = (
    Feature("option_data_loss_protect", 0, is_assumed=True),
    Feature("option_upfront_shutdown_script", 4, "IN"),
    Feature("gossip_queries", 6),
    Feature("var_onion_optin", 8, is_assumed=True),
    Feature("gossip_queries_ex", 10, "IN"),
    Feature("option_static_remotekey", 12, is_assumed=True),
    Feature("payment_secret", 14, is_assumed=True),
    Feature("basic_mpp", 16, "IN9", ("payment_secret",)),
    Feature("option_support_large_channel", 18, "IN"),
    Feature("option_anchors", 22, "INT"),
    Feature("option_route_blinding", 24, "IN9"),
    Feature("option_shutdown_anysegwit", 26, "IN"),
    Feature("option_dual_fund", 28, "IN"),
    Feature("option_quiesce", 34, "IN"),
    Feature("option_attribution_data", 36, "IN9"),
    Feature("option_onion_messages", 38, "IN"),
    Feature("option_provide_storage", 42, "IN"),
    Feature("option_channel_type", 44, is_assumed=True),
    Feature("option_scid_alias", 46, "INT"),
    Feature("option_payment_metadata", 48, "9"),
    Feature("option_zeroconf", 50, "INT", ("option_scid_alias",)),
    Feature("option_simple_close", 60, "IN", ("option_shutdown_anysegwit",)),
    Feature("option_splice", 62, "IN"),
)

FEATURES: Final[dict[str, Feature]] = {feature.name: feature for feature in _TABLE}
_NAME_OF_BIT = {feature.bit: feature.name for feature in _TABLE}

DATA_LOSS_PROTECT = "option_data_loss_protect"
UPFRONT_SHUTDOWN_SCRIPT = "option_upfront_shutdown_script"
GOSSIP_QUERIES = "gossip_queries"
VAR_ONION = "var_onion_optin"
GOSSIP_QUERIES_EX = "gossip_queries_ex"
STATIC_REMOTEKEY = "option_static_remotekey"
PAYMENT_SECRET = "payment_secret"
BASIC_MPP = "basic_mpp"
LARGE_CHANNEL = "option_support_large_channel"
ANCHORS = "option_anchors"
ROUTE_BLINDING = "option_route_blinding"
SHUTDOWN_ANYSEGWIT = "option_shutdown_anysegwit"
DUAL_FUND = "option_dual_fund"
QUIESCE = "option_quiesce"
ATTRIBUTION_DATA = "option_attribution_data"
ONION_MESSAGES = "option_onion_messages"
PROVIDE_STORAGE = "option_provide_storage"
CHANNEL_TYPE = "option_channel_type"
SCID_ALIAS = "option_scid_alias"
PAYMENT_METADATA = "option_payment_metadata"
ZEROCONF = "option_zeroconf"
SIMPLE_CLOSE = "option_simple_close"
SPLICE = "option_splice"

_EVEN_BITS_OF_BYTE = 0x55


class UnknownRequiredFeature(ValueError):
    """The other side demands a feature that we do not know or do not have."""

    def __init__(self, bit: int) -> None:
        self.bit = bit
        super().__init__(f"feature bit {bit} is required and not supported here")


class MissingDependency(ValueError):
    """A feature is set without one that it cannot do without."""

    def __init__(self, feature: str, needs: str) -> None:
        self.feature, self.needs = feature, needs
        super().__init__(f"{feature} is set without {needs}, which it needs")


class Features(msgspec.Struct, frozen=True):
    """A set of feature bits.

    Bit 0 is the lowest bit of the integer, as it is the lowest of the last byte on the wire.
    """

    bits: int = 0

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Features":
        """The set that a feature field encodes; leading zero bytes are no matter."""
        return cls(int.from_bytes(raw, "big"))

    @classmethod
    def of(cls, *required: str, optional: Iterable[str] = ()) -> "Features":
        """A set from names: the even bit of the required ones, the odd bit of the optional."""
        even = sum(1 << FEATURES[name].bit for name in set(required))
        return cls(even | sum(2 << FEATURES[name].bit for name in set(optional)))

    def to_bytes(self) -> bytes:
        """The shortest big-endian encoding; an empty set is no bytes."""
        return self.bits.to_bytes((self.bits.bit_length() + 7) // 8, "big")

    def __or__(self, other: "Features") -> "Features":
        return Features(self.bits | other.bits)

    def __iter__(self) -> Iterator[int]:
        """The bits that are set, ascending."""
        return (bit for bit in range(self.bits.bit_length()) if self.bits >> bit & 1)

    def has(self, name: str) -> bool:
        """Whether the feature is offered or required."""
        return bool(self.bits >> FEATURES[name].bit & 3)

    def requires(self, name: str) -> bool:
        """Whether the feature is required; with both bits set it is."""
        # b9.2: both bits of a pair together mean required
        return bool(self.bits >> FEATURES[name].bit & 1)

    def with_required(self, *names: str) -> "Features":
        """This set, with these features required and no longer merely offered."""
        return self.without(*names) | Features.of(*names)

    def with_optional(self, *names: str) -> "Features":
        """This set, with these features offered and no longer required."""
        return self.without(*names) | Features.of(optional=names)

    def without(self, *names: str) -> "Features":
        """This set without either bit of these features."""
        pairs = sum(3 << FEATURES[name].bit for name in set(names))
        return Features(self.bits & ~pairs)

    def names(self) -> tuple[str, ...]:
        """The known features offered or required, by bit."""
        return tuple(feature.name for feature in _TABLE if self.has(feature.name))

    def unknown_even(self, known: "Features | None" = None) -> int | None:
        """The lowest required bit of a feature outside `known` (by default the whole table)."""
        pairs = _EVERY_PAIR if known is None else known.pairs()
        unknown = self.bits & _even_bits(self.bits.bit_length()) & ~pairs
        return (unknown & -unknown).bit_length() - 1 if unknown else None

    def pairs(self) -> int:
        """Both bits of every feature in the set."""
        even = _even_bits(self.bits.bit_length())
        low = (self.bits | self.bits >> 1) & even
        return low | low << 1

    def missing_dependencies(self) -> tuple[tuple[str, str], ...]:
        """Each known feature in the set with a direct need that is not in it, assumed ones aside."""
        return tuple(
            (feature.name, need)
            for feature in _TABLE
            if self.has(feature.name)
            for need in feature.depends_on
            if not FEATURES[need].is_assumed and not self.has(need)
        )


def _even_bits(length: int) -> int:
    return int.from_bytes(bytes([_EVEN_BITS_OF_BYTE]) * (length // 8 + 1), "big")


_EVERY_PAIR = sum(3 << feature.bit for feature in _TABLE)


def check_features(theirs: Features, ours: Features) -> None:
    """Whether we can deal with a node that announces these.

    Raises:
        UnknownRequiredFeature: it demands one that we do not announce.
        MissingDependency: it sets one without another that it needs.
    """
    # init.3: an unknown even bit, or a missing dependency, and we cannot stay connected
    bit = theirs.unknown_even(ours)
    if bit is not None:
        raise UnknownRequiredFeature(bit)
    for feature, need in theirs.missing_dependencies():
        raise MissingDependency(feature, need)


def in_context(features: Features, context: str) -> Features:
    """The part of a set that may be written in a context, given by its letter.

    The assumed features and `gossip_queries`, which the table confines to no context any more,
    are written in init and node_announcement, and of them the two that concern payments in
    invoices, because the nodes of today still look for them there.
    """
    outside = [
        feature.name
        for feature in _TABLE
        if context not in (feature.contexts or _CONTEXTS_WHEN_ASSUMED.get(feature.name, "IN"))
    ]
    return features.without(*outside)


_CONTEXTS_WHEN_ASSUMED = {VAR_ONION: "IN9", PAYMENT_SECRET: "IN9", STATIC_REMOTEKEY: "INT"}

# Five implementations require these of each other, and some disconnect when one is missing.
ASSUMED = (DATA_LOSS_PROTECT, VAR_ONION, STATIC_REMOTEKEY, PAYMENT_SECRET, CHANNEL_TYPE)

# b9.1: what this node supports, each once, with everything it depends on
OURS: Final = Features.of(
    *ASSUMED,
    optional=(
        UPFRONT_SHUTDOWN_SCRIPT,
        GOSSIP_QUERIES,
        GOSSIP_QUERIES_EX,
        BASIC_MPP,
        LARGE_CHANNEL,
        ANCHORS,
        ROUTE_BLINDING,
        SHUTDOWN_ANYSEGWIT,
        ATTRIBUTION_DATA,
        QUIESCE,
        ONION_MESSAGES,
        PROVIDE_STORAGE,
        SCID_ALIAS,
        ZEROCONF,
        SIMPLE_CLOSE,
    ),
)
OUR_INIT: Final = in_context(OURS, "I")
NODE_ANNOUNCEMENT: Final = in_context(OURS, "N")
INVOICE: Final = in_context(OURS, "9")
# What we understand in somebody's invoice, and may therefore be required to.
PAYABLE: Final = INVOICE.with_optional(PAYMENT_METADATA)


def channel_type_bits(names: Iterable[str]) -> bytes:
    """A channel type: the even bits of its features, in the fewest bytes (BOLT 2)."""
    return Features.of(*names).to_bytes()


def channel_type_names(raw: bytes) -> frozenset[str] | None:
    """The features of a channel type, or None when the bytes can be no channel type.

    open_channel.4: only even bits of known features, encoded minimally.
    """
    features = Features.from_bytes(raw)
    if features.to_bytes() != raw or any(bit not in _NAME_OF_BIT for bit in features):
        return None
    return frozenset(_NAME_OF_BIT[bit] for bit in features)
