"""What can be wrong with gossip (BOLT 7): one class per rule, its base class is the remedy.

`Warn`: the peer cannot have taken this for good; tell it, and do not use the message. `Ignore`:
honest peers send such things too, so drop it silently. `Refused`: our own side asked for an
announcement that BOLT 7 forbids.
"""

from typing import ClassVar

from wire.scid import text_of


class BadGossip(Exception):
    """A message breaks a rule; `str()` says which, in one sentence."""

    says: ClassVar[str]

    def __str__(self) -> str:
        return self.says.format_map({name: _shown(name, value) for name, value in vars(self).items()})


def _shown(name: str, value: object) -> str:
    if name == "short_channel_id" and isinstance(value, int):
        return text_of(value)
    return value.hex() if isinstance(value, bytes) else str(value)


class Warn(BadGossip):
    """Answer with `warning`; the connection may be closed."""


class Ignore(BadGossip):
    """Drop the message and say nothing."""


class Refused(BadGossip):
    """Our own side asked for what BOLT 7 forbids; nothing was made."""


class _OfChannel(BadGossip):
    def __init__(self, short_channel_id: int) -> None:
        super().__init__(short_channel_id)
        self.short_channel_id = short_channel_id


class BadSignature(Warn):
    """A signature does not fit its key and the message."""

    says = "{field} does not sign this message with {key}"

    def __init__(self, field: str, key: bytes) -> None:
        super().__init__(field, key)
        self.field, self.key = field, key


class NodesNotAscending(Warn, _OfChannel):
    """node_id_1 is not the lesser of the two."""

    says = "the nodes of channel {short_channel_id} are not in ascending order"


class WrongShortChannelId(Warn):
    """announcement_signatures is about another output than the channel's."""

    says = "announcement_signatures names {short_channel_id}, the channel is elsewhere"

    def __init__(self, short_channel_id: int, ours: int) -> None:
        super().__init__(short_channel_id, ours)
        self.short_channel_id, self.ours = short_channel_id, ours


class AddressesCutOff(Warn):
    """The addresses end inside a descriptor of a known type."""

    says = "the addresses of {node_id} end inside a descriptor"

    def __init__(self, node_id: bytes) -> None:
        super().__init__(node_id)
        self.node_id = node_id


class UnreadableArray(Warn):
    """An array in a query is compressed, cut off, or encoded in a way we have not heard of."""

    says = "an array in {message} cannot be read: {why}"

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message, why)
        self.message, self.why = message, why


class RaggedArrays(Warn):
    """Two arrays of one message that belong together differ in length."""

    says = "the arrays in {message} do not hold one item per channel"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnaskedReply(Warn):
    """An answer to nothing we asked, or outside of what we asked."""

    says = "{message} answers nothing that was asked"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnknownChain(Ignore):
    """The message is about a chain we do not follow."""

    says = "chain {chain_hash} is not followed here"

    def __init__(self, chain_hash: bytes) -> None:
        super().__init__(chain_hash)
        self.chain_hash = chain_hash


class NotTheFundingOutput(Ignore, _OfChannel):
    """The output there does not pay to the two keys, or is spent, or never was."""

    says = "no unspent funding output of these keys is at {short_channel_id}"


class NotDeepEnough(Ignore, _OfChannel):
    """The funding output has too few confirmations to be announced."""

    says = "the funding output of {short_channel_id} is not deep enough"


class Crowded(Ignore, _OfChannel):
    """Too many announcements wait for their outputs, or this peer has sent another of this one."""

    says = "no room for another announcement of {short_channel_id}"


class AlreadyKnown(Ignore):
    """We have this message, or a newer one in its place."""

    says = "a message as new as this one is known"


class ChannelSpent(Ignore, _OfChannel):
    """An update that would revive a channel whose output is spent."""

    says = "the output of channel {short_channel_id} is spent"


class NotForUs(Ignore, _OfChannel):
    """An update that must not be forwarded, for a channel that is not ours."""

    says = "the update of {short_channel_id} was meant for its other end alone"


class ConflictingUpdate(Ignore, _OfChannel):
    """Two different updates with the same timestamp."""

    says = "two updates of {short_channel_id} differ but have one timestamp"


class ConflictingAnnouncement(Ignore, _OfChannel):
    """The same output announced by other nodes: keys have leaked."""

    says = "channel {short_channel_id} was announced by other nodes before"


class Blacklisted(Ignore, _OfChannel):
    """One of the channel's nodes is not believed any more."""

    says = "a node of channel {short_channel_id} contradicted itself before"


class _AtTime(BadGossip):
    def __init__(self, timestamp: int, now_seconds: int) -> None:
        super().__init__(timestamp, now_seconds)
        self.timestamp, self.now_seconds = timestamp, now_seconds


class FromTheFuture(Ignore, _AtTime):
    """The timestamp lies far ahead of our clock."""

    says = "timestamp {timestamp} is too far ahead of {now_seconds}"


class TooOld(Ignore, _AtTime):
    """The timestamp is older than what we would prune."""

    says = "timestamp {timestamp} is more than two weeks before {now_seconds}"


class ImpossibleLimits(Refused):
    """The least HTLC we would forward is above the most."""

    says = "no HTLC is both at least {htlc_minimum_msat} msat and at most {htlc_maximum_msat} msat"

    def __init__(self, htlc_minimum_msat: int, htlc_maximum_msat: int) -> None:
        super().__init__(htlc_minimum_msat, htlc_maximum_msat)
        self.htlc_minimum_msat, self.htlc_maximum_msat = htlc_minimum_msat, htlc_maximum_msat
