"""Channels that end on the chain, carried through blocks, restarts and reorganisations (BOLT 5).

The rules are `htlc.resolution`'s; here they meet the database, the wallet and the chain. A
resolution is one row for its channel, written in the same transaction as whatever the block did.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from htlc.channel import Channel, Phase
from htlc.deadlines import expiring, is_abandoned, overdue
from htlc.effects import Alert, Broadcast, Forget, Fund, Lapse, ResolutionEffect, Save, Settle
from htlc.market import Market
from htlc.withdrawal import is_stalled, offered_again
from node.chain.interface import BlockConnected
from node.daemon.later import Later
from node.daemon.wallet import ForeignInput, FundedTransaction, InsufficientFunds
from wire.bitcoin.tx import OutPoint, Transaction

if TYPE_CHECKING:
    from htlc import resolution as chain_rules
    from htlc import resolution_identify as endings
    from htlc import resolution_pursuit as pursuit
    from htlc.resolution import Resolution, ResolutionStep
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn
else:
    # a node whose channels live needs none of them
    chain_rules, pursuit = Later("htlc.resolution"), Later("htlc.resolution_pursuit")
    endings = Later("htlc.resolution_identify")

log = logging.getLogger("rill.resolver")

STALLED = "your revoke_and_ack has not come, and an HTLC that waits for it is about to expire"


class Resolver:
    """The resolutions of one node, and what they ask of it."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        self.resolutions: dict[bytes, Resolution] = {}
        for raw in switch.store.values("resolutions"):
            row = msgspec.msgpack.decode(raw, type=chain_rules.Resolution)
            self.resolutions[row.channel_id] = row
        self.market = Market()

    # --- events

    def fail(self, turn: "Turn", channel: Channel) -> None:
        """Go to chain with our latest commitment."""
        resolution = self.resolutions.get(channel.id) or self._new(turn, channel.id)
        if not resolution.is_publishing:
            self._take(turn, chain_rules.went_to_chain(resolution))
            self.pursue(turn, channel.id)

    def _new(self, turn: "Turn", channel_id: bytes) -> "Resolution":
        return chain_rules.Resolution(channel_id, self._switch.new_script(turn), self._switch.height)

    def connect(self, turn: "Turn", block: BlockConnected, *, is_tip: bool = True) -> None:
        """A block: see what it does to channels, and at the tip publish what it makes ripe.

        Below the tip nothing is published: a block that we merely read late passed nothing over.
        """
        touching = self._touching(turn, block)
        for channel_id in [*self.resolutions, *(new for new in touching if new not in self.resolutions)]:
            self._read(turn, channel_id, block.height, touching.get(channel_id, ()))
            if is_tip:
                self.pursue(turn, channel_id)
            if self.resolutions[channel_id].is_forgettable:
                self._forget(turn, channel_id)
        if is_tip:
            self._keep_deadlines(turn, block.height)

    def _read(
        self, turn: "Turn", channel_id: bytes, height: int, transactions: Sequence[Transaction]
    ) -> None:
        channel = turn.channel(channel_id)
        assert channel is not None, "a channel is never forgotten before its resolution"
        before = self.resolutions.get(channel_id) or self._new(turn, channel_id)
        secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
        past = partial(turn.past_htlcs, channel_id)
        self._take(turn, chain_rules.connected(before, channel, secrets, height, transactions, past))

    def relive(
        self, turn: "Turn", channel_id: bytes, blocks: Sequence[tuple[int, Sequence[Transaction]]]
    ) -> None:
        """Blocks up to where we stand that touched a channel before we knew of it."""
        if blocks:
            for height, transactions in blocks:
                self._read(turn, channel_id, height, transactions)
            self._read(turn, channel_id, self._switch.height, ())
            self.pursue(turn, channel_id)

    def _keep_deadlines(self, turn: "Turn", height: int) -> None:
        for channel in turn.all_channels():
            if is_abandoned(channel, height):
                turn.put(msgspec.structs.replace(channel, phase=Phase.CLOSED))
                self._switch.live.discard(channel.id)
                self._forget(turn, channel.id)
                continue
            broken = overdue(channel, height)
            if broken is not None:
                turn.fail_channel(channel, str(broken))
                continue
            if is_stalled(channel, height):
                self._take_back(turn, channel, height)
            for htlc in expiring(channel, height):
                turn.fail_back(channel.id, htlc)

    def _take_back(self, turn: "Turn", channel: Channel, height: int) -> None:
        """What waits for our signature since long shall not have it; first the peer must forget it."""
        if channel.id in self._switch.live:
            turn.warn(channel.charter.peer_id, channel.id, STALLED)
        else:
            turn.take(offered_again(channel, height, self._switch.house.most_dust_exposure_msat))

    def _touching(self, turn: "Turn", block: BlockConnected) -> dict[bytes, Sequence[Transaction]]:
        """The block's transactions that concern channels, by channel."""
        watched: dict[OutPoint, bytes] = {}
        for channel in turn.all_channels():
            if channel.phase is not Phase.CLOSED or channel.id in self.resolutions:
                watched[channel.charter.funding_outpoint] = channel.id
        for resolution in self.resolutions.values():
            watched.update(dict.fromkeys(resolution.watched, resolution.channel_id))
        touching: dict[bytes, list[Transaction]] = {}
        for transaction in block.transactions:
            concerned = {watched[txin.outpoint] for txin in transaction.inputs if txin.outpoint in watched}
            for channel_id in concerned:
                touching.setdefault(channel_id, []).append(transaction)
                # an output and what spends it may be in one block
                made = map(transaction.outpoint, range(len(transaction.outputs)))
                watched.update(dict.fromkeys(made, channel_id))
        return dict(touching)

    def disconnect(self, turn: "Turn", height: int) -> None:
        """The last block is undone."""
        for channel_id, resolution in list(self.resolutions.items()):
            self._take(turn, chain_rules.disconnected(resolution, height))
            self.pursue(turn, channel_id)

    def pursue(self, turn: "Turn", channel_id: bytes) -> None:
        """Publish what can be published now; also when a preimage was learned, and after a start."""
        resolution, channel = self.resolutions.get(channel_id), turn.channel(channel_id)
        if resolution is None or channel is None:
            return
        # one that is behind is pursued when it has read the block that is being read
        if resolution.height >= self._switch.height:
            secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
            self._take(turn, pursuit.pursue(resolution, channel, secrets, self.market))

    # --- effects

    def _take(self, turn: "Turn", step: "ResolutionStep") -> None:
        channel_id = step.resolution.channel_id
        self.resolutions[channel_id] = step.resolution
        self._set_phase(turn, step.resolution)
        for effect in step.effects:
            self._carry_out(turn, channel_id, effect)

    def _set_phase(self, turn: "Turn", resolution: "Resolution") -> None:
        channel = turn.channel(resolution.channel_id)
        if channel is not None:
            phase = _phase(resolution, channel)
            if channel.phase is not phase:
                turn.put(msgspec.structs.replace(channel, phase=phase))
                self._switch.live.discard(channel.id)

    def _carry_out(self, turn: "Turn", channel_id: bytes, effect: ResolutionEffect) -> None:
        match effect:
            case Save():
                turn.writes_once[b"resolution" + channel_id] = partial(self._write, channel_id)
            case Settle(htlc=htlc):
                turn.settle_outgoing(channel_id, htlc)
            case Lapse(htlc=htlc):
                turn.lapse(channel_id, htlc)
            case Broadcast(transaction=transaction, child=child):
                self._publish(turn, (transaction, child) if child else (transaction,))
            case Fund():
                self._fund(turn, channel_id, effect)
            case Forget(txid=txid):
                self._switch.wallet.forget(txid)
                self._save_wallet(turn)
            case Alert(why=why):
                log.error(why, extra={"channel": channel_id.hex()})

    def _write(self, channel_id: bytes) -> None:
        self._switch.store.put_value("resolutions", channel_id, self.resolutions[channel_id])

    def _publish(self, turn: "Turn", transactions: tuple[Transaction, ...]) -> None:
        for transaction in transactions:
            self._switch.wallet.add(transaction)
        self._save_wallet(turn)
        turn.publish(*transactions)

    def _save_wallet(self, turn: "Turn") -> None:
        wallet, store = self._switch.wallet, self._switch.store
        turn.writes_once[b"wallet"] = lambda: wallet.save(store.db)

    def _fund(self, turn: "Turn", channel_id: bytes, fund: Fund) -> None:
        """Let the wallet pay for a claim; without money, or for too much of it, the claim waits."""
        resolution, channel = self.resolutions[channel_id], turn.channel(channel_id)
        assert channel is not None, "a resolution belongs to a channel"
        before = _version(resolution, fund.replaces)
        if before is not None:
            # its inputs may serve again
            self._switch.wallet.forget(before.txid)
        paid = self._funded(fund)
        if paid is None:
            if before is not None:
                self._switch.wallet.add(before)
            return
        secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
        self._take(turn, pursuit.funded(resolution, channel, secrets, fund, paid.transaction, paid.fee_sat))

    def _funded(self, fund: Fund) -> FundedTransaction | None:
        wallet = self._switch.wallet
        foreign = [ForeignInput(each.txin, each.spent, each.witness_weight) for each in fund.inputs]
        try:
            paid = wallet.fund(
                fund.outputs,
                fund.feerate_per_kw,
                foreign=foreign,
                also_pay_sat=fund.also_pay_sat,
                locktime=fund.locktime,
            )
        except InsufficientFunds as short:
            log.error("the wallet cannot pay for a claim", extra={"why": str(short)})
            return None
        if paid.fee_sat > fund.most_fee_sat:
            wallet.release(paid)
            return None
        return paid

    def _forget(self, turn: "Turn", channel_id: bytes) -> None:
        """Nothing can bring it back: a hundred blocks lie on all of it, or there never was anything."""
        self.resolutions.pop(channel_id, None)
        turn.writes_once[b"resolution" + channel_id] = partial(self._switch.store.forget_channel, channel_id)


def _phase(resolution: "Resolution", channel: Channel) -> Phase:
    """The phase of a channel whose funding output is being spent."""
    if resolution.is_done:
        return Phase.CLOSED
    if resolution.spent is not None:
        is_agreed = resolution.spent.ending is endings.Ending.COOPERATIVE
        return Phase.CLOSED if is_agreed else Phase.FAILED
    if resolution.is_publishing:
        return Phase.FAILED
    # its end is undone, and what brought it about waits again
    return Phase.CLOSING if channel.phase is Phase.CLOSED else channel.phase


def _version(resolution: "Resolution", txid: bytes | None) -> Transaction | None:
    """The version of a claim that has this txid."""
    versions = [*resolution.claims, *([resolution.child] if resolution.child else [])]
    found = [claim.transaction for claim in versions if claim.transaction.txid == txid]
    return found[0] if found else None
