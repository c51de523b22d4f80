"""Commands about what our channels ask for passing payments on, and about channels that are over."""

from typing import Any

import msgspec

from htlc.channel import Channel, Phase
from htlc.ladder import LOCAL, REMOTE
from node.daemon.history import closer_of
from node.daemon.node import Node
from node.daemon.rpc_channels import channels_called
from node.daemon.rpc_parameters import U32, AmountMsat, AmountMsatU32, Boolean, NodeId, Text
from node.daemon.rpc_views import channel_type_view, is_over
from wire.bitcoin.tx import txid_hex
from wire.scid import text_of
from wire.units import Msat, msat

ALL = "all"
ENFORCE_DELAY_SECONDS = 600
_NO_END = ("CHANNELD_AWAITING_LOCKIN", "CHANNELD_NORMAL")
_SIDES = {LOCAL: "local", REMOTE: "remote"}


class TollCommands:
    """Fees, limits, and the past."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def setchannel(
        self,
        id: Text,
        feebase: AmountMsatU32 | None = None,
        feeppm: U32 | None = None,
        htlcmin: AmountMsat | None = None,
        htlcmax: AmountMsat | None = None,
        enforcedelay: U32 = ENFORCE_DELAY_SECONDS,
        ignorefeelimits: Boolean | None = None,
    ) -> dict[str, Any]:
        """Set what a channel asks for, by its id or its peer's; or `all` channels."""
        node = self._node
        found = node.channels() if id == ALL else channels_called(node, id)
        channels = [channel for channel in found if channel.phase in (Phase.AWAITING_FUNDING, Phase.NORMAL)]
        wish = {
            "fee_base_msat": feebase,
            "fee_proportional_millionths": feeppm,
            "htlc_minimum_msat": htlcmin,
            "htlc_maximum_msat": htlcmax,
        }
        given = {name: value for name, value in wish.items() if value is not None}
        for channel in channels:
            toll = msgspec.structs.replace(node.switch.toll_of(channel), **given)
            await node.switch.set_toll(channel.id, toll, enforcedelay)
            node.gossiper.tell_toll(channel.id)
            if ignorefeelimits is not None:
                await node.switch.set_lenient(channel.id, is_lenient=ignorefeelimits)
        return {"channels": [self._view(channel, htlcmin, htlcmax) for channel in channels]}

    def _view(self, channel: Channel, htlcmin: Msat | None, htlcmax: Msat | None) -> dict[str, Any]:
        toll, theirs = self._node.switch.toll_of(channel), channel.charter.terms.remote
        most_msat = Msat(min(msat(channel.charter.funding_sat), theirs.max_htlc_value_in_flight_msat))
        view: dict[str, Any] = {
            "peer_id": channel.charter.peer_id.hex(),
            "channel_id": channel.id.hex(),
            "fee_base_msat": toll.fee_base_msat,
            "fee_proportional_millionths": toll.fee_proportional_millionths,
            "ignore_fee_limits": channel.id in self._node.switch.lenient,
            "minimum_htlc_out_msat": max(toll.htlc_minimum_msat, theirs.htlc_minimum_msat),
            "maximum_htlc_out_msat": min(toll.htlc_maximum_msat or most_msat, most_msat),
        }
        if channel.short_channel_id is not None:
            view["short_channel_id"] = text_of(channel.short_channel_id)
        if htlcmin is not None and htlcmin < theirs.htlc_minimum_msat:
            view["warning_htlcmin_too_low"] = "Set minimum_htlc_out_msat to minimum allowed by peer"
        if htlcmax is not None and htlcmax > most_msat:
            view["warning_htlcmax_too_high"] = "Set maximum_htlc_out_msat to maximum possible in channel"
        return view

    async def listclosedchannels(self, id: NodeId | None = None) -> dict[str, Any]:
        """The channels that are over."""
        node = self._node
        over = [channel for channel in node.channels() if is_over(node, channel)]
        return {"closedchannels": [self._past(c) for c in over if id in (None, c.charter.peer_id)]}

    def _past(self, channel: Channel) -> dict[str, Any]:
        charter, switch = channel.charter, self._node.switch
        past, closer = switch.histories.of(channel), closer_of(switch, channel)
        causes = [change.cause for change in past.changes if change.new not in _NO_END]
        ours_msat = channel.settled_msat.local
        view = {
            "peer_id": charter.peer_id.hex(),
            "channel_id": channel.id.hex(),
            "opener": _SIDES[charter.opener],
            "private": not charter.is_announced,
            "channel_type": channel_type_view(charter.channel_type),
            "total_local_commitments": channel.number.local + 1,
            "total_remote_commitments": channel.number.remote + 1,
            "total_htlcs_sent": channel.next_htlc_id.local,
            "funding_txid": txid_hex(charter.funding_outpoint.txid),
            "funding_outnum": charter.funding_outpoint.index,
            "funding_withheld": False,
            "leased": False,
            "total_msat": msat(charter.funding_sat),
            "final_to_us_msat": ours_msat,
            "min_to_us_msat": past.least_msat,
            "max_to_us_msat": past.most_msat,
            "close_cause": causes[0] if causes else "unknown",
        }
        if closer is not None:
            view["closer"] = _SIDES[closer]
        if past.pushed_msat is not None:
            view["funding_pushed_msat"] = past.pushed_msat
        scid = channel.short_channel_id
        return view if scid is None else {**view, "short_channel_id": text_of(scid)}
