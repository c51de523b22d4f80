"""The books of a line of nodes: who owned what, who paid whom, and whether the sums are right.

Every coin that was not the miner's at the beginning is at the end in a wallet, in a channel that is
still open, in a fee, or in an output that is worth nothing to anybody: an anchor, or what its owner
has left because a claim would cost more than it brings. And of each node alone: what it has less
than its payments explain, it has paid for transactions.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from gossip.routes import Route
from htlc.channel import Channel, Phase
from htlc.ladder import LOCAL
from htlc.transactions import ANCHOR_SAT
from node.chain.coins import Coin
from node.chain.interface import BlockConnected
from node.daemon.payments import Status
from tests.node.lockstep import Line
from tests.node.plain_node import PlainNode
from wire.bitcoin.tx import OutPoint, Transaction
from wire.crypto.secp256k1 import Point
from wire.units import Msat, Sat

MAY_BE_TRIMMED_MSAT = 5_000_000
"""HTLCs below may have no output, or none that is worth its fee."""
DUST_SAT = 1000
DEEPEST_REORGANISATION = 6


class Entry(msgspec.Struct, frozen=True):
    """A payment as its payer means it, or one part of it."""

    payer: str
    payee: str
    payment_hash: bytes
    route: Route
    part_id: int


class Cheat(msgspec.Struct, frozen=True):
    """An old commitment that somebody has published."""

    name: str
    number: int
    commitment: Transaction


class Books:
    """Opened when all have their coins, and no channel is open yet."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.entries: list[Entry] = []
        self.cheats: dict[bytes, Cheat] = {}
        self.punished = 0
        self._begun_at = line.chain.regtest.height
        self._entitled = {node.name: self._owns_msat(node) for node in line.nodes}
        self._values = {outpoint: coin.value_sat for outpoint, coin in line.chain.regtest.coins}
        self._mined: dict[bytes, Transaction] = {}
        self._spenders: dict[OutPoint, Transaction] = {}

    def name(self, node_id: Point) -> str:
        return next(node.name for node in self.line.nodes if node.id == node_id)

    # --- entries

    def push(self, opener: PlainNode, accepter: PlainNode, amount_msat: Msat) -> None:
        """A channel was opened with a gift."""
        self._entitled[opener.name] -= amount_msat
        self._entitled[accepter.name] += amount_msat

    def enter(
        self, payer: PlainNode, payee: PlainNode, payment_hash: bytes, route: Route, part_id: int = 0
    ) -> None:
        """A payment, or a part of one, is about to be tried."""
        self.entries.append(Entry(payer.name, payee.name, payment_hash, route, part_id))

    def status(self, entry: Entry) -> Status | None:
        """What its payer knows of it."""
        attempts = self.line[entry.payer].switch.payments.attempts(entry.payment_hash)
        return next((each.status for each in attempts if each.part_id == entry.part_id), None)

    @property
    def cheaters(self) -> set[str]:
        return {cheat.name for cheat in self.cheats.values()}

    @property
    def completed(self) -> int:
        """How many payments arrived."""
        return sum(map(self._is_complete, self.entries))

    @property
    def completed_in_parts(self) -> int:
        """How many payments arrived in several parts."""
        complete = Counter(entry.payment_hash for entry in self.entries if self._is_complete(entry))
        return sum(count > 1 for count in complete.values())

    def pending(self) -> list[str]:
        """Payments that have not ended; who has gone back to an old state may have forgotten its own."""
        pending = [each for each in self.entries if self.status(each) is Status.PENDING]
        return [f"payment to {each.payee}" for each in pending if each.payer not in self.cheaters]

    # --- what there is

    @staticmethod
    def _owns_msat(node: PlainNode) -> int:
        """What is the node's in its wallet and in its open channels."""
        open_channels = [c for c in node.switch.channels.values() if c.phase is Phase.NORMAL]
        in_channels = sum(channel.settled_msat.local for channel in open_channels)
        balance = node.wallet.balance_sat()
        return in_channels + 1000 * (balance.confirmed_sat + balance.unconfirmed_sat)

    def _coins(self) -> Iterator[tuple[OutPoint, Coin]]:
        """Every coin that is not the miner's."""
        chain = self.line.chain
        for outpoint, coin in chain.regtest.coins:
            if coin.script != chain.faucet.script and coin.height and coin.value_sat:
                yield outpoint, coin

    def _channels(self) -> Iterator[tuple[PlainNode, Channel]]:
        for node in self.line.nodes:
            for channel in node.switch.channels.values():
                yield node, channel

    # --- the sums

    def close(self) -> None:
        """Check everything once nothing is under way."""
        self._read_chain()
        self._check_wallets()
        left_sat = self._check_left()
        fees_sat = sum(map(self._fee_sat, self._mined.values()))
        for entry in self.entries:
            self._check_outcome(entry)
        costs_msat = self._costs_msat()
        assert sum(costs_msat.values()) == 1000 * (fees_sat + left_sat), "satoshis were lost or made"
        for node in self.line.nodes:
            self._check_costs(node, costs_msat[node.name])
        for channel_id, cheat in self.cheats.items():
            self._check_punished(channel_id, cheat)

    def _read_chain(self) -> None:
        """Every transaction since the books were opened but coinbases."""
        # a reorganisation may put transactions a little before the place where they first were
        follower = self.line.chain.follow(self._begun_at - DEEPEST_REORGANISATION + 1)
        while (event := follower.step()) is not None:
            assert isinstance(event, BlockConnected)
            for transaction in event.transactions:
                for index, output in enumerate(transaction.outputs):
                    self._values[transaction.outpoint(index)] = output.value_sat
            for transaction in event.transactions[1:]:
                self._mined[transaction.txid] = transaction
                self._spenders.update({txin.outpoint: transaction for txin in transaction.inputs})

    def _fee_sat(self, transaction: Transaction) -> Sat:
        spent_sat = sum(self._values[txin.outpoint] for txin in transaction.inputs)
        return Sat(spent_sat - sum(output.value_sat for output in transaction.outputs))

    def _check_wallets(self) -> None:
        """Each wallet believes what the chain says, and nothing of it waits or is locked."""
        coins = dict(self._coins())
        for node in self.line.nodes:
            found = {coin.outpoint: coin for coin in node.wallet.coins()}
            waiting = [coin for coin in found.values() if coin.height is None]
            assert not waiting, f"{node.name} waits for what never comes: {waiting}"
            locked = [coin for coin in found.values() if coin.is_reserved]
            assert not locked, f"{node.name} has locked {locked}"
            on_chain = {outpoint for outpoint, coin in coins.items() if node.wallet.is_ours(coin.script)}
            assert on_chain == found.keys(), f"{node.name}'s wallet is not what the chain says"

    def _check_left(self) -> int:
        """Outputs that nobody has taken are worth nothing to anybody; what they are together."""
        funding = {c.charter.funding_outpoint for _, c in self._channels() if c.phase is Phase.NORMAL}
        given_up, forgotten = self._given_up(), self._forgotten()
        left_sat = 0
        for outpoint, coin in self._coins():
            is_owned = any(node.wallet.is_ours(coin.script) for node in self.line.nodes)
            if is_owned or outpoint in funding:
                continue
            is_worthless = coin.value_sat == ANCHOR_SAT or outpoint in given_up
            is_worthless = is_worthless or outpoint.txid in forgotten
            assert is_worthless, f"{coin.value_sat} sat of {outpoint} were left on the chain"
            left_sat += coin.value_sat
        return left_sat

    def _forgotten(self) -> set[bytes]:
        """Newest commitments of channels that somebody has set back in vain: he cannot read them."""
        spenders = {
            channel_id: self._spenders.get(channel.charter.funding_outpoint)
            for node in self.line.nodes
            for channel_id, channel in node.switch.channels.items()
        }
        found = [(spenders[channel_id], cheat) for channel_id, cheat in self.cheats.items()]
        return {tx.txid for tx, cheat in found if tx is not None and tx.txid != cheat.commitment.txid}

    def _given_up(self) -> set[OutPoint]:
        return {
            outpoint
            for node in self.line.nodes
            for resolution in node.switch.resolver.resolutions.values()
            for outpoint in resolution.left
        }

    # --- payments

    def _check_outcome(self, entry: Entry) -> None:
        """Both ends of a payment agree, but for HTLCs that had no output when a channel failed."""
        invoice = self.line[entry.payee].switch.invoices.rows.get(entry.payment_hash)
        is_paid, is_complete = invoice is not None and invoice.is_paid, self._is_complete(entry)
        if is_complete:
            assert is_paid, f"{entry.payer} has paid {entry.payee}, who does not know"
        if is_paid and not is_complete:
            is_excused = bool(self.cheats) or self._may_be_lost(entry)
            assert is_excused, f"{entry.payee} was paid, and {entry.payer} does not know"

    def _is_complete(self, entry: Entry) -> bool:
        return self.status(entry) is Status.COMPLETE

    def _may_be_lost(self, entry: Entry) -> bool:
        return self._are_unilateral() and entry.route.amount_msat < MAY_BE_TRIMMED_MSAT

    def _are_unilateral(self) -> bool:
        """Whether some channel went to chain."""
        return any(c.phase is Phase.CLOSED and not self._is_agreed(c) for _, c in self._channels())

    def _is_agreed(self, channel: Channel) -> bool:
        """Whether it was closed by a transaction that both agreed on: nobody has to wait for it."""
        spender = self._spenders[channel.charter.funding_outpoint]
        return all(self._pays_a_wallet(output.script) for output in spender.outputs)

    def _pays_a_wallet(self, script: bytes) -> bool:
        return any(node.wallet.is_ours(script) for node in self.line.nodes)

    def _costs_msat(self) -> dict[str, int]:
        """What each node has less than its payments explain."""
        entitled = dict(self._entitled)
        for entry in filter(self._is_complete, self.entries):
            hops = entry.route.hops
            entitled[entry.payer] -= hops[0].amount_msat
            for near, far in pairwise(hops):
                entitled[self.name(near.node_id)] += near.amount_msat - far.amount_msat
            entitled[entry.payee] += hops[-1].amount_msat
        return {node.name: entitled[node.name] - self._owns_msat(node) for node in self.line.nodes}

    def _check_costs(self, node: PlainNode, cost_msat: int) -> None:
        """A node has paid for transactions, and gained nothing but from those that cheat."""
        # what has no output when a channel goes to chain is lost by whoever then has it, wherever that is
        slack_msat = self._trimmed_msat() if self._are_unilateral() else 0
        for channel in node.switch.channels.values():
            if channel.phase is Phase.CLOSED and self._is_agreed(channel):
                slack_msat += 1000 * DUST_SAT
        transactions = [each for each in self._mined.values() if self._is_paid_by(node, each)]
        fees_msat = 1000 * sum(self._fee_sat(each) + _small_sat(each) for each in transactions)
        if node.name not in self.cheaters:
            assert cost_msat <= fees_msat + slack_msat, f"{node.name} lost {cost_msat - fees_msat} msat"
        if not self.cheats:
            assert cost_msat >= -slack_msat, f"{node.name} gained {-cost_msat} msat"

    def _trimmed_msat(self) -> int:
        """HTLCs that may have gone to fees, or that somebody may have left to another."""
        amounts = [entry.route.hops[0].amount_msat for entry in self.entries]
        return sum(amount for amount in amounts if amount < MAY_BE_TRIMMED_MSAT)

    def _is_paid_by(self, node: PlainNode, transaction: Transaction) -> bool:
        """Whether its fee was the node's: the opener's for what both have signed."""
        for channel in node.switch.channels.values():
            if transaction.inputs[0].outpoint == channel.charter.funding_outpoint:
                # under option_simple_close who wants to close pays
                return channel.charter.opener is LOCAL or transaction.txid in node.published
        return transaction.txid in node.published

    # --- cheats

    def _check_punished(self, channel_id: bytes, cheat: Cheat) -> None:
        """A revoked commitment has brought its publisher nothing, if it is what closed the channel."""
        victim, channel = next(
            (node, node.switch.channels[channel_id])
            for node in self.line.nodes
            if node.name != cheat.name and channel_id in node.switch.channels
        )
        spender = self._spenders.get(channel.charter.funding_outpoint)
        # one whose secret is still under way is as good as the newest
        is_revoked = channel.shachain.secret_of_commitment(cheat.number) is not None
        if is_revoked and spender is not None and spender.txid == cheat.commitment.txid:
            self.punished += 1
            for index in range(len(spender.outputs)):
                self._check_taken(spender.outpoint(index), victim)

    def _check_taken(self, outpoint: OutPoint, victim: PlainNode) -> None:
        """An output of a cheat's is the victim's now, or what a second stage made of it is."""
        value_sat, spender = self._values[outpoint], self._spenders.get(outpoint)
        if value_sat == ANCHOR_SAT or outpoint in self._given_up():
            return
        assert spender is not None, f"{value_sat} sat of {outpoint} were not taken from the cheat"
        if spender.txid in victim.published:
            assert all(victim.wallet.is_ours(output.script) for output in spender.outputs)
            return
        position = [txin.outpoint for txin in spender.inputs].index(outpoint)
        assert not self._pays_a_wallet(spender.outputs[position].script), f"the cheat kept {value_sat} sat"
        self._check_taken(spender.outpoint(position), victim)


def _small_sat(transaction: Transaction) -> int:
    """Outputs that serve only to pay for it, or are not worth taking."""
    return sum(output.value_sat for output in transaction.outputs if output.value_sat <= DUST_SAT)
