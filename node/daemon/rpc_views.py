"""Channels, coins, invoices and payments as Core Lightning's replies show them."""

from datetime import UTC, datetime
from typing import Any

from gossip.graph import Policy
from htlc.channel import Channel, Phase
from htlc.ladder import LOCAL, REMOTE, Htlc, Side
from htlc.limits import receivable_msat, spendable_msat
from node.daemon.history import Change, closer_of, state_of
from node.daemon.node import Node
from node.daemon.wallet import WalletCoin
from wire.bitcoin.address import address_of
from wire.bitcoin.tx import txid_hex
from wire.features import Features
from wire.scid import text_of
from wire.units import Msat, msat

_SIDES = {LOCAL: "local", REMOTE: "remote"}
# the features of a channel that are told of
_NAMED = {"option_static_remotekey", "option_anchors", "option_scid_alias", "option_zeroconf"}
# by whose update it is: what moves it up, from the bottom rung to the top
RUNGS = {
    LOCAL: (
        "SENT_{}_HTLC",
        "SENT_{}_COMMIT",
        "RCVD_{}_REVOCATION",
        "RCVD_{}_ACK_COMMIT",
        "SENT_{}_ACK_REVOCATION",
    ),
    REMOTE: (
        "RCVD_{}_HTLC",
        "RCVD_{}_COMMIT",
        "SENT_{}_REVOCATION",
        "SENT_{}_ACK_COMMIT",
        "RCVD_{}_ACK_REVOCATION",
    ),
}


def is_over(node: Node, channel: Channel) -> bool:
    """Whether nothing of it is left to watch."""
    return channel.phase is Phase.CLOSED and channel.id not in node.switch.resolver.resolutions


def channel_view(node: Node, channel: Channel) -> dict[str, Any]:
    """An entry of `listpeerchannels`."""
    charter = channel.charter
    peer = node.switch.peers.get(charter.peer_id)
    feerate = channel.feerate_in(LOCAL)
    view = {
        "peer_id": charter.peer_id.hex(),
        "peer_connected": peer is not None,
        "state": state_of(node.switch, channel),
        "channel_type": channel_type_view(charter.channel_type),
        "updates": {"local": _our_policy(node, channel), **_their_policy(node, channel)},
        "lost_state": channel.phase is Phase.BEHIND,
        "feerate": {"perkw": feerate, "perkb": 4 * feerate},
        "channel_id": channel.id.hex(),
        "funding_txid": txid_hex(charter.funding_outpoint.txid),
        "funding_outnum": charter.funding_outpoint.index,
        "private": not charter.is_announced,
        "opener": _SIDES[charter.opener],
        "features": [name for name in Features.from_bytes(charter.channel_type).names() if name in _NAMED],
        "funding": _funding(node, channel),
        "status": [channel.phase.value],
        "state_changes": [_change_view(change) for change in node.switch.histories.of(channel).changes],
        "htlcs": [htlc_view(htlc) for htlc in channel.all_htlcs()],
        **_amounts(channel),
        **_tolls(node, channel),
        **_past(node, channel),
    }
    if channel.short_channel_id is not None:
        view["short_channel_id"] = text_of(channel.short_channel_id)
        view["direction"] = int(node.node_id > charter.peer_id)
    aliases = {"local": channel.aliases.local, "remote": channel.aliases.remote}
    known = {side: text_of(alias) for side, alias in aliases.items() if alias is not None}
    if known:
        view |= {"alias": known, "direction": int(node.node_id > charter.peer_id)}
    if peer is not None:
        view["reestablished"] = channel.id in node.switch.live
    return view


def _funding(node: Node, channel: Channel) -> dict[str, Any]:
    charter, pushed = channel.charter, node.switch.histories.of(channel).pushed_msat
    funds = {side: msat(charter.funding_sat) if charter.opener is side else 0 for side in (LOCAL, REMOTE)}
    view = {"local_funds_msat": funds[LOCAL], "remote_funds_msat": funds[REMOTE], "withheld": False}
    return view if pushed is None else {**view, "pushed_msat": pushed}


def _past(node: Node, channel: Channel) -> dict[str, Any]:
    """What has happened on it, and who is ending it."""
    past = node.switch.histories.of(channel)
    view: dict[str, Any] = {"min_to_us_msat": past.least_msat, "max_to_us_msat": past.most_msat}
    for name, side in (("in", REMOTE), ("out", LOCAL)):
        for kind, total in (("offered", past.offered(channel, side)), ("fulfilled", past.fulfilled[side])):
            view |= {f"{name}_payments_{kind}": total.count, f"{name}_{kind}_msat": total.msat}
    closer, script = closer_of(node.switch, channel), channel.closing.scripts.local
    if closer is not None:
        view["closer"] = _SIDES[closer]
    return {**view, "close_to": script.hex()} if script else view


def _change_view(change: Change) -> dict[str, Any]:
    at = datetime.fromtimestamp(change.at_seconds, UTC)
    return {
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "old_state": change.old,
        "new_state": change.new,
        "cause": change.cause,
        "message": change.message,
    }


def _amounts(channel: Channel) -> dict[str, Any]:
    charter = channel.charter
    ours, theirs = charter.terms.local, charter.terms.remote
    return {
        "to_us_msat": channel.settled_msat.local,
        "total_msat": msat(charter.funding_sat),
        "dust_limit_msat": msat(ours.dust_limit_sat),
        "their_max_htlc_value_in_flight_msat": theirs.max_htlc_value_in_flight_msat,
        "our_max_htlc_value_in_flight_msat": ours.max_htlc_value_in_flight_msat,
        "their_reserve_msat": msat(ours.channel_reserve_sat),
        "our_reserve_msat": msat(theirs.channel_reserve_sat),
        "spendable_msat": spendable_msat(channel),
        "receivable_msat": receivable_msat(channel),
        "minimum_htlc_in_msat": ours.htlc_minimum_msat,
        "their_to_self_delay": ours.to_self_delay_blocks,
        "our_to_self_delay": theirs.to_self_delay_blocks,
        "max_accepted_htlcs": ours.max_accepted_htlcs,
    }


def _tolls(node: Node, channel: Channel) -> dict[str, Any]:
    toll, (least_msat, most_msat) = node.switch.toll_of(channel), limits_out_msat(node, channel)
    return {
        "minimum_htlc_out_msat": least_msat,
        "maximum_htlc_out_msat": most_msat,
        "fee_base_msat": toll.fee_base_msat,
        "fee_proportional_millionths": toll.fee_proportional_millionths,
    }


def limits_out_msat(node: Node, channel: Channel) -> tuple[Msat, Msat]:
    """The least and the most that an HTLC of ours may carry, as our user and the peer want it."""
    toll, theirs = node.switch.toll_of(channel), channel.charter.terms.remote
    most_msat = Msat(min(msat(channel.charter.funding_sat), theirs.max_htlc_value_in_flight_msat))
    least_msat = Msat(max(toll.htlc_minimum_msat, theirs.htlc_minimum_msat))
    return least_msat, Msat(min(toll.htlc_maximum_msat or most_msat, most_msat))


def _our_policy(node: Node, channel: Channel) -> dict[str, Any]:
    """What we ask for, whether it is announced already or not."""
    toll, (least_msat, most_msat) = node.switch.toll_of(channel), limits_out_msat(node, channel)
    return {
        "htlc_minimum_msat": least_msat,
        "htlc_maximum_msat": most_msat,
        "cltv_expiry_delta": toll.cltv_expiry_delta,
        "fee_base_msat": toll.fee_base_msat,
        "fee_proportional_millionths": toll.fee_proportional_millionths,
    }


def _their_policy(node: Node, channel: Channel) -> dict[str, Any]:
    """What the peer's channel_update says, if we have seen one."""
    scid = channel.graph_id
    if scid is None or scid not in node.graph:
        return {}
    direction = node.graph.channels[scid].direction_from(channel.charter.peer_id)
    policy = node.graph.policy(scid, direction)
    return {} if policy is None else {"remote": policy_view(policy)}


def policy_view(policy: Policy) -> dict[str, Any]:
    """One direction's terms."""
    return {
        "htlc_minimum_msat": policy.htlc_minimum_msat,
        "htlc_maximum_msat": policy.htlc_maximum_msat,
        "cltv_expiry_delta": policy.cltv_expiry_delta,
        "fee_base_msat": policy.fee_base_msat,
        "fee_proportional_millionths": policy.fee_proportional_millionths,
    }


def channel_type_view(raw: bytes) -> dict[str, Any]:
    """A channel type's bits and their names."""
    bits = list(Features.from_bytes(raw))
    return {"bits": bits, "names": [_bit_name(bit) for bit in bits]}


def _bit_name(bit: int) -> str:
    [name] = Features(1 << bit).names() or (f"unknown_{bit}",)
    return f"{name.removeprefix('option_')}/{'odd' if bit % 2 else 'even'}"


def htlc_view(htlc: Htlc) -> dict[str, Any]:
    """An HTLC on the ladder."""
    direction = "out" if htlc.proposer is LOCAL else "in"
    return {
        "direction": direction,
        "id": htlc.id,
        "amount_msat": htlc.amount_msat,
        "expiry": htlc.cltv_expiry,
        "payment_hash": htlc.payment_hash.hex(),
        "state": _htlc_state(htlc),
    }


def _htlc_state(htlc: Htlc) -> str:
    if htlc.outcome is None:
        return RUNGS[htlc.proposer][htlc.rung].format("ADD")
    remover: Side = htlc.proposer.other
    return RUNGS[remover][htlc.outcome_rung].format("REMOVE")


def coin_view(coin: WalletCoin, network: str, is_mature: bool = True) -> dict[str, Any]:
    """An entry of `outputs` in `listfunds`."""
    confirmed = "confirmed" if is_mature else "immature"
    view = {
        "txid": txid_hex(coin.outpoint.txid),
        "output": coin.outpoint.index,
        "amount_msat": msat(coin.value_sat),
        "scriptpubkey": coin.script.hex(),
        "address": address_of(coin.script, network),
        "status": "unconfirmed" if coin.height is None else confirmed,
        "reserved": coin.is_reserved,
    }
    if coin.reserved_until:
        view["reserved_to_block"] = coin.reserved_until
    return view if coin.height is None else {**view, "blockheight": coin.height}


def channel_funds_view(node: Node, channel: Channel) -> dict[str, Any]:
    """An entry of `channels` in `listfunds`."""
    view = {
        "peer_id": channel.charter.peer_id.hex(),
        "connected": channel.charter.peer_id in node.switch.peers,
        "state": state_of(node.switch, channel),
        "channel_id": channel.id.hex(),
        "our_amount_msat": channel.settled_msat.local,
        "amount_msat": msat(channel.charter.funding_sat),
        "funding_txid": txid_hex(channel.charter.funding_outpoint.txid),
        "funding_output": channel.charter.funding_outpoint.index,
    }
    scid = channel.short_channel_id
    return view if scid is None else {**view, "short_channel_id": text_of(scid)}
