"""Commands about channels."""

from typing import Any

import trio

from htlc.channel import Channel, Phase
from htlc.errors import ChannelError
from htlc.resolution_claims import our_commitment
from node.daemon.node import Node
from node.daemon.rpc import tell
from node.daemon.rpc_feerates import read_feerate
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    Array,
    Boolean,
    CommandFailed,
    Hash,
    Integer,
    Label,
    NodeId,
    ShortChannelId,
    Text,
    at_most_one,
)
from node.daemon.rpc_views import (
    channel_view,
    is_over,
)
from wire.bitcoin.address import InvalidAddress, script_of
from wire.bitcoin.tx import Transaction, txid_hex
from wire.scid import NotAShortChannelId, parse, text_of
from wire.units import Msat

UNSPECIFIED = -1
CANNOT_AFFORD = 301
PEER_NOT_CONNECTED = 305
UNKNOWN_PEER = 306
TWO_DAYS_SECONDS = 172_800
NOTHING_MSAT = Msat(0)
_OPEN = (Phase.AWAITING_FUNDING, Phase.NORMAL)
_SETTLED = (Phase.CLOSING, Phase.FAILED, Phase.BEHIND, Phase.CLOSED)


class ChannelCommands:
    """Opening, closing, listing."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def listpeerchannels(
        self,
        id: NodeId | None = None,
        short_channel_id: ShortChannelId | None = None,
        channel_id: Hash | None = None,
    ) -> dict[str, Any]:
        """Our channels, those that are closed and buried left out."""
        at_most_one(id=id, short_channel_id=short_channel_id, channel_id=channel_id)
        node, short = self._node, None if short_channel_id is None else text_of(short_channel_id)
        shown = [
            channel_view(node, channel)
            for channel in node.channels()
            if id in (None, channel.charter.peer_id)
            and channel_id in (None, channel.id)
            and (short is None or short in _names(channel))
            and not is_over(node, channel)
        ]
        return {"channels": shown}

    async def close(
        self,
        id: Text,
        unilateraltimeout: Integer = TWO_DAYS_SECONDS,
        destination: Text | None = None,
        fee_negotiation_step: Label | None = None,  # noqa: ARG002 - modern peers agree at once
        wrong_funding: Text | None = None,
        force_lease_closed: Boolean = False,  # noqa: ARG002 - nothing is leased here
        feerange: Array | None = None,
    ) -> dict[str, Any]:
        """Close a channel, named by its id, its short id or its peer: together, or in the end alone."""
        node, channel = self._node, channel_called(self._node, id)
        if wrong_funding is not None:
            raise CommandFailed(INVALID_PARAMETERS, "wrong_funding: peers do not offer that any more")
        if channel.phase in _OPEN:
            script = b"" if destination is None else self._script(destination)
            try:
                await node.close_channel(channel.id, script, await self._closing_rate(feerange))
            except ChannelError as refused:
                raise CommandFailed(UNSPECIFIED, str(refused)) from None
            await self._tell_of_peer(channel, unilateraltimeout)
        with trio.move_on_after(unilateraltimeout or float("inf")) as patience:
            await node.wait_for_channels(lambda _: self._is_settled(channel.id))
        if patience.cancelled_caught:
            await tell("the peer did not agree in time: the channel is closed alone")
            await node.force_close(channel.id)
        return self._closed(node.switch.channels[channel.id])

    async def _tell_of_peer(self, channel: Channel, unilateraltimeout: int) -> None:
        if channel.charter.peer_id in self._node.switch.peers:
            await tell("shutdown is sent; HTLCs that are on their way are waited for")
        else:
            alone = f" ({unilateraltimeout} seconds before it is closed alone)" if unilateraltimeout else ""
            await tell(f"peer is offline, will negotiate once they reconnect{alone}")

    def _script(self, address: str) -> bytes:
        try:
            return script_of(address, self._node.chain.network)
        except InvalidAddress as bad:
            why = f"destination: {bad}: invalid token '{address}'"
            raise CommandFailed(INVALID_PARAMETERS, why) from None

    async def _closing_rate(self, feerange: list[Any] | None) -> int | None:
        """What the chain asks for, within what our user allows."""
        if feerange is None:
            return None
        if len(feerange) != 2:
            raise CommandFailed(INVALID_PARAMETERS, "feerange: should be an array of two feerates")
        low, high = [await read_feerate("feerange", each).per_kw(self._node.chain) for each in feerange]
        return max(low, min(self._node.switch.closings.feerate_per_kw, high))

    def _is_settled(self, channel_id: bytes) -> bool:
        """Whether it is decided how the channel ends."""
        channel = self._node.switch.channels.get(channel_id)
        return channel is None or channel.phase in _SETTLED or channel.closing.transaction is not None

    def _closed(self, channel: Channel) -> dict[str, Any]:
        agreed = channel.closing.transaction
        if agreed is not None and channel.phase in (Phase.CLOSING, Phase.CLOSED, Phase.NEGOTIATING):
            return _ended("mutual", agreed)
        return _ended("unilateral", self._commitment(channel))

    def _commitment(self, channel: Channel) -> Transaction:
        """The one that closes a channel which was not closed together: ours, unless theirs was mined."""
        resolution = self._node.switch.resolver.resolutions.get(channel.id)
        if resolution is not None and resolution.spent is not None:
            return resolution.spent.transaction
        if channel.phase is Phase.BEHIND or channel.is_restored:
            # reestablish.7
            raise CommandFailed(UNSPECIFIED, "its state is lost: only its peer can close it, and is asked to")
        return our_commitment(channel, self._node.signer.channel_secrets(channel.charter.key_index))


def channels_called(node: Node, name: str) -> list[Channel]:
    """The channels that a channel id, a short channel id or a peer's id stands for.

    Raises:
        CommandFailed: there are none.
    """
    found = [channel for channel in node.channels() if name in _names(channel)]
    if not found:
        found = [
            channel
            for channel in node.channels()
            if channel.charter.peer_id.hex() == name and not is_over(node, channel)
        ]
    if not found:
        raise _unknown(node, name)
    return found


def _unknown(node: Node, name: str) -> CommandFailed:
    """Why a name stands for no channel."""
    if name in [peer_id.hex() for peer_id in node.switch.peers]:
        return CommandFailed(UNSPECIFIED, "Peer has no active channel")
    kind = "Short channel id" if _is_short(name) else "Channel id"
    return CommandFailed(INVALID_PARAMETERS, f"id: {kind} not found: invalid token '{name}'")


def channel_called(node: Node, name: str) -> Channel:
    """The one channel that a name stands for.

    Raises:
        CommandFailed: there is none, or more than one.
    """
    found = channels_called(node, name)
    if len(found) > 1:
        raise CommandFailed(UNSPECIFIED, "Peer has multiple channels: use channel_id or short_channel_id")
    return found[0]


def _names(channel: Channel) -> tuple[str, ...]:
    ids = (channel.short_channel_id, channel.aliases.local)
    return (channel.id.hex(), *(text_of(each) for each in ids if each is not None))


def _is_short(name: str) -> bool:
    try:
        parse(name)
    except NotAShortChannelId:
        return False
    return True


def _ended(type: str, *transactions: Transaction) -> dict[str, Any]:
    raw = [transaction.serialize().hex() for transaction in transactions]
    return {"type": type, "txs": raw, "txids": [txid_hex(transaction.txid) for transaction in transactions]}
