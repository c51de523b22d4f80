"""Payments over a middle hop whose neighbours do not do their part, and what the middle hop owes them.

Alice pays Carol over Bob. Carol says nothing, or is away, or comes back late, or lies: she fails the
HTLC, goes back to what she had on disk before, and takes the money on the chain. Meanwhile the chain
may take nothing in. Whatever she does, Bob's channel with Alice stays open, he answers Alice in time
and not before he may, goes to chain in time, and is not poorer. Or it is Alice who goes, when Bob has
the preimage: then he takes his money on the chain. `play` runs one seed.
"""

import shutil
from pathlib import Path
from random import Random

from htlc.channel import Channel, Phase
from htlc.ladder import Failed, FailedMalformed, Forwarded, Fulfilled, Htlc, Rung
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, House, Wish
from node.chain.interface import BlockConnected
from node.daemon.payments import Status
from tests.node.lockstep import Line, Link
from tests.node.plain_node import PlainNode
from tests.properties.books import Books
from wire.bitcoin.block import CHAIN_HASH
from wire.units import Msat, Sat

CONDUCTS = ("silent", "away", "late", "liar", "stuck", "unpaid")
SMALL_MSAT = 600_000  # above dust, and yet too small for an output where its claim has a fee
AMOUNTS_MSAT = (20_000_000, 50_000_000, 80_000_000, SMALL_MSAT)
FEES_SAT = 15_000  # less than the smallest of the others

# of BOLT 2: what a node may wait for, in blocks
GRACE_BLOCKS = 2
CLAIM_BLOCKS = 18
FAIL_BACK_BLOCKS = 3
DEEP_BLOCKS = 6
STUCK_BLOCKS = 45
DELAY_BLOCKS = 12
DRAIN_BLOCKS = 120

_OPEN = (Phase.NORMAL, Phase.SHUTTING_DOWN)


class Story:
    """One run."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random, self.directory = Random(seed), directory
        self.conduct = self.random.choice(CONDUCTS)
        house = House(CHAIN_HASH["regtest"], to_self_delay_blocks=DELAY_BLOCKS)
        self.line = Line(directory, "alice bob carol", house)
        self.alice, self.bob, self.carol = self.line.nodes
        self.hashes: list[bytes] = []
        self.failed: set[int] = set()  # Alice's HTLCs that Bob has failed
        self.stuck_blocks = STUCK_BLOCKS if self.conduct == "stuck" else 0

    def play(self) -> None:
        """All of it, and what must hold after every block and in the end."""
        self._open()
        self.bob.switch.on_channels_changed.append(self._check_not_too_early)
        before_msat = Books._owns_msat(self.bob)
        self._pay()
        getattr(self, f"_{self.conduct}")()
        for _ in range(DRAIN_BLOCKS):
            self._mine()
        self._check_end(before_msat)

    # --- the beginning

    def _open(self) -> None:
        line, random = self.line, self.random
        line.fund((node, value_sat) for node in line.nodes for value_sat in (1_100_000, 200_000, 200_000))
        for link in line.links:
            channel_type = random.choice((ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE))
            link.join()
            line.begin_opening(link, Wish(Sat(1_000_000), Msat(500_000_000), 1000, channel_type, True))
            line.settle()
        line.mine(3)
        line.settle()

    def _pay(self) -> None:
        """One to three payments, which Carol has and does not answer."""
        self.carol.is_holding = True
        for _ in range(self.random.randrange(1, 4)):
            self._pay_one()
        self.line.settle()
        assert len(self.carol.held) == len(self.hashes)

    def _pay_one(self) -> None:
        amount_msat = self.random.choice(AMOUNTS_MSAT)
        invoice = self.carol.add_invoice(amount_msat, len(self.hashes))
        route = self.line.route(self.alice, self.carol, amount_msat, self.random.choice((3, 10)))
        self.alice.pay(route, invoice.payment_hash, invoice.payment_secret)
        self.hashes.append(invoice.payment_hash)

    @property
    def _far(self) -> Link:
        return self.line.links[1]

    def _mine(self) -> None:
        """A block, which everybody reads, and all that is said over it."""
        regtest, script = self.line.chain.regtest, self.line.chain.faucet.script
        if self.stuck_blocks and self._is_somebody_on_chain():
            self.stuck_blocks -= 1
            regtest.mine_only((), script)
        else:
            regtest.mine(1, script)
        self.line.follow()
        self._settle()
        self._check_in_time()

    def _settle(self) -> None:
        links, self.line.links = self.line.links, [link for link in self.line.links if link.is_up]
        try:
            self.line.settle()
        finally:
            self.line.links = links

    def _is_somebody_on_chain(self) -> bool:
        return self.bob.channel_with(self.carol).phase not in _OPEN

    # --- what Carol does

    def _silent(self) -> None:
        """She is there, and says nothing of it."""

    def _stuck(self) -> None:
        """Nor does a miner, when Bob has gone to chain."""

    def _away(self) -> None:
        """She is not there any more, perhaps since the middle of something."""
        self._far.cut()

    def _late(self) -> None:
        """She is away, and at some moment takes the money on the chain."""
        self._far.cut()
        for _ in range(self.random.randrange(1, FINAL_BLOCKS)):
            self._mine()
        self._take_on_chain()

    def _liar(self) -> None:
        """She fails the payments, but before that is irrevocable takes them, from an older disk."""
        self.carol.die()
        old = self.directory / "old"
        shutil.copytree(self.carol.directory, old)
        self.carol.start()
        self._far.join()
        self._settle()
        wanted = list(self.hashes)
        if self.random.random() < 0.5:
            # Bob has just signed something else when she fails them
            self._pay_one()
            self._near_settles()
        for payment_hash in wanted:
            row = self.carol.switch.invoices.rows[payment_hash]
            self.carol.ask(lambda turn, row=row: self.carol.switch.invoices.delete(turn, row))  # type: ignore[misc]
        self.carol.release()
        for _ in range(self.random.randrange(12)):
            to = self.random.choice((0, 1))
            self._far.deliver(to)
            self._far.nodes[to].turn()
        self._far.cut()
        self.carol.die()
        shutil.rmtree(self.carol.directory)
        shutil.copytree(old, self.carol.directory)
        self.carol.start()
        self.carol.follow()
        self._take_on_chain()

    def _near_settles(self) -> None:
        """Everything between Alice and Bob arrives, and nothing between Bob and Carol."""
        while any(self.line.links[0].waiting(to) for to in (0, 1)):
            for to in (0, 1):
                self.line.links[0].deliver(to, 9)
                self.line.links[0].nodes[to].turn()

    def _unpaid(self) -> None:
        """She gives the preimages, and Alice is not there to take them."""
        self.line.links[0].cut()
        self.carol.release()
        self.carol.is_holding = False
        self._settle()

    def _take_on_chain(self) -> None:
        """She says what she knows to the chain alone."""
        channel = self.carol.channel_with(self.bob)
        if channel.phase in _OPEN:
            self.carol.release()
            self.carol.force_close(channel.id)

    # --- what must hold

    def _check_in_time(self) -> None:
        """Nobody waits for a peer longer than is safe, and none has to go to chain against a living peer."""
        for node in self.line.nodes:
            for channel in node.switch.channels.values():
                if channel.phase in _OPEN:
                    self._check_deadlines(node, channel)
        near = (self.alice.channel_with(self.bob), self.bob.channel_with(self.alice))
        is_open = all(channel.phase is Phase.NORMAL for channel in near)
        assert is_open or self.conduct == "unpaid", "Alice's channel was lost"

    def _check_deadlines(self, node: PlainNode, channel: Channel) -> None:
        height = node.switch.height
        for htlc in channel.htlcs.local.values():
            is_late = height > htlc.cltv_expiry + GRACE_BLOCKS
            assert not is_late, f"{node.name} still waits at {height} for HTLC {htlc.id}, {htlc.cltv_expiry}"
        for htlc in channel.htlcs.remote.values():
            is_late = isinstance(htlc.outcome, Fulfilled) and height > htlc.cltv_expiry - CLAIM_BLOCKS
            assert not is_late, f"{node.name} would lose HTLC {htlc.id} of {htlc.cltv_expiry} at {height}"
            is_open = htlc.outcome is None and height >= htlc.cltv_expiry
            assert not is_open or node is self.carol, f"{node.name} lets HTLC {htlc.id} run out"

    def _check_not_too_early(self, changed: list[Channel]) -> None:
        """Bob fails an HTLC of Alice's when Carol cannot have it any more, or Alice cannot wait."""
        # forwarding-safety.1
        for channel in changed:
            if channel.charter.peer_id != self.alice.id:
                continue
            for htlc in channel.htlcs.remote.values():
                if isinstance(htlc.outcome, Failed | FailedMalformed) and htlc.id not in self.failed:
                    self.failed.add(htlc.id)
                    assert self._may_fail(channel, htlc), f"HTLC {htlc.id} was failed too early"

    def _may_fail(self, channel: Channel, htlc: Htlc) -> bool:
        onward = self.bob.channel_with(self.carol)
        sent = [
            each
            for each in onward.htlcs.local.values()
            if isinstance(each.origin, Forwarded)
            and (each.origin.channel_id, each.origin.htlc_id) == (channel.id, htlc.id)
        ]
        height = self.bob.switch.height
        cannot_wait = height >= htlc.cltv_expiry - FAIL_BACK_BLOCKS
        # where miners take what Bob publishes, the chain has decided long before
        assert not cannot_wait or self.conduct not in ("silent", "away"), "Alice waited to the last moment"
        is_gone = not sent or all(each.is_gone for each in sent) or sent[0].rung is Rung.PROPOSED
        spent_height = self._spent_height(onward)
        is_deep = spent_height is not None and height - spent_height + 1 >= DEEP_BLOCKS
        return cannot_wait or is_gone or is_deep

    def _spent_height(self, channel: Channel) -> int | None:
        """In which block the channel ended, if it is in one."""
        follower, outpoint = self.line.chain.follow(1), channel.charter.funding_outpoint
        while (event := follower.step()) is not None:
            assert isinstance(event, BlockConnected)
            for transaction in event.transactions:
                if any(txin.outpoint == outpoint for txin in transaction.inputs):
                    return event.height
        return None

    def _check_end(self, before_msat: int) -> None:
        """Alice has paid what Carol has taken, and nothing else; Bob has lost no more than fees."""
        for payment_hash in self.hashes:
            row = self.carol.switch.invoices.rows.get(payment_hash)
            is_taken = row is not None and row.is_paid
            [attempt] = self.alice.switch.payments.attempts(payment_hash)
            assert attempt.status is not Status.PENDING, "Alice waits for ever"
            if attempt.status is Status.COMPLETE:
                assert is_taken, "Alice has paid for nothing"
        lost_msat = before_msat - Books._owns_msat(self.bob)
        assert lost_msat <= 1000 * FEES_SAT, f"Bob has lost {lost_msat} msat"


FINAL_BLOCKS = 20  # about as long as an HTLC of Carol's lives


def play(directory: Path, seed: int) -> Story:
    """Run one seed to its end."""
    story = Story(directory, seed)
    with story.line:
        try:
            story.play()
        except AssertionError as broken:
            raise AssertionError(f"seed {seed}, {story.conduct}: {broken}") from broken
    return story
