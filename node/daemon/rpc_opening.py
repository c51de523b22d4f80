"""Commands that open channels: one, or several with one transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from htlc.channel import Channel
from htlc.errors import ChannelError
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, Wish, format_of
from htlc.transactions import ChannelFormat
from node.daemon.establish import Funding, OpeningFailed, best_type
from node.daemon.fees import MOST_WITH_ANCHORS_PER_KW
from node.daemon.node import Node
from node.daemon.peer import Peer, PeerGone
from node.daemon.rpc import Commands
from node.daemon.rpc_feerates import OPENING, Feerate
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    U32,
    AmountMsat,
    AmountSat,
    AmountSatOrAll,
    Array,
    Boolean,
    CommandFailed,
    Integer,
    NodeId,
    Text,
)
from node.daemon.rpc_peers import reach
from node.daemon.rpc_views import channel_type_view
from node.daemon.rpc_wallet import means_of
from node.daemon.turn import Turn
from node.daemon.wallet import InsufficientFunds, Means
from wire.bitcoin.address import InvalidAddress, script_of
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import txid_hex
from wire.crypto.secp256k1 import Point
from wire.features import SCID_ALIAS, ZEROCONF, Features
from wire.units import Msat, Sat

UNSPECIFIED = -1
CANNOT_AFFORD = 301
PEER_NOT_CONNECTED = 305
UNKNOWN_PEER = 306
NOTHING_MSAT = Msat(0)
P2WSH_OUTPUT_BYTES = 43


class Plan(msgspec.Struct, frozen=True):
    """A channel that our user wants."""

    peer_id: Point
    amount_sat: Sat | None  # None: all that the wallet can pay
    is_announced: bool = True
    push_msat: Msat = NOTHING_MSAT
    channel_type: bytes | None = None
    close_to: bytes = b""
    minimum_depth_blocks: int | None = None
    reserve_sat: Sat | None = None


class OpeningCommands:
    """Opening channels."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._destinations = Commands(_Destinations(node))

    async def fundchannel(
        self,
        id: NodeId,
        amount: AmountSatOrAll,
        feerate: Feerate = OPENING,
        announce: Boolean = True,
        minconf: Integer | None = None,
        push_msat: AmountMsat = NOTHING_MSAT,
        close_to: Text | None = None,
        request_amt: AmountSat | None = None,
        compact_lease: Text | None = None,
        utxos: Array | None = None,
        mindepth: U32 | None = None,
        reserve: AmountSat | None = None,
        channel_type: Array | None = None,
    ) -> dict[str, Any]:
        """Open a channel, and pay for it from the wallet."""
        if request_amt is not None or compact_lease is not None:
            raise CommandFailed(INVALID_PARAMETERS, "request_amt: nobody leases liquidity to this node")
        plan = Plan(
            id,
            amount,
            announce,
            push_msat,
            None if channel_type is None else _channel_type(channel_type),
            b"" if close_to is None else script_at(self._node, "close_to", close_to),
            mindepth,
            reserve,
        )
        rate = await feerate.per_kw(self._node.chain)
        means = Means() if minconf is None and utxos is None else means_of(minconf or 0, utxos)
        [channel] = await self._open([plan], rate, rate, means)
        view = {
            **self._transaction(channel),
            **_view(channel),
            "outnum": channel.charter.funding_outpoint.index,
        }
        return {**view, "mindepth": channel.charter.minimum_depth_blocks}

    async def multifundchannel(
        self,
        destinations: Array,
        feerate: Feerate = OPENING,
        minconf: Integer | None = None,
        utxos: Array | None = None,
        minchannels: Integer | None = None,
        commitment_feerate: Feerate | None = None,
    ) -> dict[str, Any]:
        """Open channels with several peers, all paid for by one transaction."""
        plans = [await self._plan(each) for each in destinations]
        least = len(plans) if minchannels is None else max(1, minchannels)
        rate = await feerate.per_kw(self._node.chain)
        commitment_rate = await (commitment_feerate or feerate).per_kw(self._node.chain)
        means = Means() if minconf is None and utxos is None else means_of(minconf or 0, utxos)
        failed: list[dict[str, Any]] = []
        while True:
            try:
                channels = await self._open(plans, rate, commitment_rate, means)
            except _PlanFailed as broken:
                failed.append(broken.view)
                plans = [plan for plan in plans if plan.peer_id != broken.plan.peer_id]
                if len(plans) < least:
                    raise
            else:
                break
        shown = [
            {
                "id": channel.charter.peer_id.hex(),
                "outnum": channel.charter.funding_outpoint.index,
                **_view(channel),
            }
            for channel in channels
        ]
        return {**self._transaction(channels[0]), "channel_ids": shown, "failed": failed}

    async def _plan(self, destination: Any) -> Plan:
        if not isinstance(destination, dict):
            raise CommandFailed(INVALID_PARAMETERS, "destinations: should be an array of objects")
        plan: Plan = await self._destinations.call("destination", destination)
        return plan

    async def _open(
        self, plans: Sequence[Plan], rate: int, commitment_rate: int, means: Means
    ) -> list[Channel]:
        """Open all of them, or none.

        Raises:
            CommandFailed: none was opened.
        """
        node = self._node
        if not plans or sum(plan.amount_sat is None for plan in plans) > 1:
            raise CommandFailed(INVALID_PARAMETERS, "destinations: should be some, and at most one for 'all'")
        peers = [await self._connected(plan) for plan in plans]
        try:
            plans = [await self._measured(plan, plans, rate, means) for plan in plans]
            wishes = [_wish(plan, peer, commitment_rate) for plan, peer in zip(plans, peers, strict=True)]
            funding = Funding(rate, means)
            channels = await node.switch.establishment.open_together(
                list(zip(peers, wishes, strict=True)), funding
            )
            # who mines right after the answer means to confirm it
            await node.switch.handed_over()
            return channels
        except InsufficientFunds as short:
            raise CommandFailed(CANNOT_AFFORD, str(short)) from None
        except (OpeningFailed, ChannelError, PeerGone) as failed:
            raise self._blamed(plans, failed) from None

    async def _connected(self, plan: Plan) -> Peer:
        try:
            return self._node.peer(plan.peer_id)
        except PeerGone:
            is_known = any(channel.charter.peer_id == plan.peer_id for channel in self._node.channels())
        code, why = (PEER_NOT_CONNECTED, "Peer not connected") if is_known else (UNKNOWN_PEER, "Unknown peer")
        raise _PlanFailed(plan, "connect", code, why)

    def _blamed(self, plans: Sequence[Plan], failed: Exception) -> CommandFailed:
        """The failure, by whose it is, if that can be told."""
        culprit = getattr(failed, "peer_id", None)
        found = [plan for plan in plans if plan.peer_id == culprit] or list(plans[:1])
        return _PlanFailed(found[0], "fundchannel_start", UNSPECIFIED, str(failed))

    async def _measured(self, plan: Plan, plans: Sequence[Plan], rate: int, means: Means) -> Plan:
        """With what `all` means: what is left when the others are paid for."""
        if plan.amount_sat is not None:
            return plan
        others = [Sat(other.amount_sat) for other in plans if other.amount_sat is not None]
        wallet = self._node.wallet

        def look(_: Turn) -> Sat:
            funded = wallet.fund_all(p2wsh(b""), rate, means)
            wallet.release(funded)
            return funded.transaction.outputs[0].value_sat

        whole_sat = await self._node.switch.ask(look)
        # each other output has its weight
        left_sat = whole_sat - sum(others) - len(others) * (4 * P2WSH_OUTPUT_BYTES * rate // 1000 + 1)
        return msgspec.structs.replace(plan, amount_sat=Sat(max(0, left_sat)))

    def _transaction(self, channel: Channel) -> dict[str, Any]:
        txid = channel.charter.funding_outpoint.txid
        found = [
            known.transaction for known in self._node.wallet.transactions() if known.transaction.txid == txid
        ]
        return {"tx": found[0].serialize().hex() if found else "", "txid": txid_hex(txid)}


class _PlanFailed(CommandFailed):
    """One channel of a plan failed, and so none came to be."""

    def __init__(self, plan: Plan, method: str, code: int, message: str) -> None:
        super().__init__(code, message)
        self.plan, self.method = plan, method

    @property
    def view(self) -> dict[str, Any]:
        """What `multifundchannel` says of it."""
        error = {"code": self.code, "message": self.message}
        return {"id": self.plan.peer_id.hex(), "method": self.method, "error": error}


class _Destinations:
    """Reads what `multifundchannel` is told of each peer, as parameters are read."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def destination(
        self,
        id: Text,
        amount: AmountSatOrAll,
        announce: Boolean = True,
        push_msat: AmountMsat = NOTHING_MSAT,
        close_to: Text | None = None,
        mindepth: U32 | None = None,
        reserve: AmountSat | None = None,
        channel_type: Array | None = None,
    ) -> Plan:
        """One channel; connects to ID@HOST:PORT if need be."""
        peer, _ = await reach(self._node, id)
        raw_type = None if channel_type is None else _channel_type(channel_type)
        script = b"" if close_to is None else script_at(self._node, "close_to", close_to)
        return Plan(Point(peer.node_id), amount, announce, push_msat, raw_type, script, mindepth, reserve)


def script_at(node: Node, name: str, address: str) -> bytes:
    """The output script of an address in a parameter.

    Raises:
        CommandFailed: it is none, or of another network.
    """
    try:
        return script_of(address, node.chain.network)
    except InvalidAddress as bad:
        raise CommandFailed(INVALID_PARAMETERS, f"{name}: {bad}: invalid token '{address}'") from None


def _wish(plan: Plan, peer: Peer, rate: int) -> Wish:
    assert plan.amount_sat is not None, "it was measured"
    raw_type = plan.channel_type or best_type(peer, is_announced=plan.is_announced)
    if plan.minimum_depth_blocks == 0 and plan.channel_type is None and peer.agrees_on(ZEROCONF):
        features = Features.from_bytes(raw_type).with_required(ZEROCONF)
        raw_type = (features if plan.is_announced else features.with_required(SCID_ALIAS)).to_bytes()
    if format_of(raw_type) is ChannelFormat.ANCHORS:
        # the anchor pays for more when it is needed
        rate = min(rate, MOST_WITH_ANCHORS_PER_KW)
    return Wish(
        plan.amount_sat,
        plan.push_msat,
        rate,
        raw_type,
        plan.is_announced,
        plan.close_to,
        plan.minimum_depth_blocks,
        plan.reserve_sat,
    )


def _view(channel: Channel) -> dict[str, Any]:
    view = {
        "outnum": channel.charter.funding_outpoint.index,
        "channel_id": channel.id.hex(),
        "channel_type": channel_type_view(channel.charter.channel_type),
    }
    promised = channel.charter.upfront_shutdown_scripts.local
    return {**view, "close_to": promised.hex()} if promised else view


def _channel_type(bits: list[Any]) -> bytes:
    try:
        raw = Features(sum(1 << int(bit) for bit in set(bits))).to_bytes()
    except (TypeError, ValueError):
        raw = b""
    if format_of(raw) is None:
        shown = [list(Features.from_bytes(known)) for known in (STATIC_REMOTEKEY_TYPE, ANCHORS_TYPE)]
        why = f"channel_type: should be one of {shown}, with 46 or 50 if wished: invalid token '{bits}'"
        raise CommandFailed(INVALID_PARAMETERS, why)
    return raw
