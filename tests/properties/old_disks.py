"""A node whose disk is set back to an older one, as by a backup that should never have been restored.

Three nodes in a line pay each other; then one of them goes on from what it had on disk some payments
ago, and meets its peers again, who may be away first. It must notice, publish nothing of its own, and
have in the end what was its own when the disk was lost, less the fees of what brought it to its wallet.
`play` runs one seed. What lies instead is for `test_old_disks`.
"""

import shutil
from pathlib import Path
from random import Random
from typing import cast

from htlc import steps
from htlc.channel import Channel, Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, House, Wish
from node.daemon.node import Node
from node.daemon.turn import Turn
from tests.node.line import sent_by
from tests.node.lockstep import Line, Link
from tests.node.plain_node import PlainNode
from tests.properties.books import Books
from wire.bitcoin.block import CHAIN_HASH
from wire.messages.base import Error
from wire.units import Msat, Sat

DELAY_BLOCKS = 12
DRAIN_BLOCKS = 60
FEES_SAT = 15_000
AMOUNTS_MSAT = (1_000_000, 20_000_000, 100_000_000)
PUSH_MSAT, CAPACITY_SAT = 500_000_000, 1_000_000


class Story:
    """One run."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random, self.directory, self.number = Random(seed), directory, 0
        house = House(CHAIN_HASH["regtest"], to_self_delay_blocks=DELAY_BLOCKS)
        self.line = Line(directory, "alice bob carol", house)
        self.victim = self.random.choice(self.line.nodes)

    def open(self) -> None:
        """Channels of either form, with money on both sides."""
        line, random = self.line, self.random
        line.fund((node, value_sat) for node in line.nodes for value_sat in (1_100_000, 200_000, 200_000))
        for link in line.links:
            link.join()
            channel_type = random.choice((ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE))
            opening = Wish(Sat(CAPACITY_SAT), Msat(PUSH_MSAT), 1000, channel_type, True)
            line.begin_opening(link, opening)
            line.settle()
        line.mine(3)
        line.settle()

    def pay(self, payer: PlainNode, payee: PlainNode) -> None:
        """A payment that arrives."""
        amount_msat, self.number = self.random.choice(AMOUNTS_MSAT), self.number + 1
        invoice = payee.add_invoice(amount_msat, self.number)
        route = self.line.route(payer, payee, amount_msat)
        payer.pay(route, invoice.payment_hash, invoice.payment_secret)
        self.line.settle()

    def pay_around(self, least: int) -> None:
        """Some payments between any two, and at least so many that pass every channel of the victim's."""
        for _ in range(self.random.randrange(3)):
            self.pay(*self.random.sample(self.line.nodes, 2))
        ends = [self.line["alice"], self.line["carol"]]
        for _ in range(least):
            self.random.shuffle(ends)
            self.pay(*ends)

    def change_fees(self) -> None:
        """One commitment more for everybody, which is the least that a node can be behind."""
        for link in self.links:
            opener, other = link.nodes

            def act(turn: Turn, channel_id: bytes = opener.channel_with(other).id) -> None:
                channel = turn.channel(channel_id)
                assert channel is not None, "it is open"
                turn.take(steps.change_fee(channel, 2 * channel.feerate_per_kw))
                turn.saved[channel_id] = None

            opener.ask(act)
        self.line.settle()

    def keep(self) -> Path:
        """A copy of the victim's disk as it is."""
        self.victim.die()
        old = self.directory / "old"
        shutil.copytree(self.victim.directory, old)
        self._return()
        return old

    def set_back(self, old: Path) -> None:
        """The victim goes on from the copy."""
        self.victim.die()
        shutil.rmtree(self.victim.directory)
        shutil.copytree(old, self.victim.directory)
        for link in self.links:
            link.cut()
        self.victim.published.clear()
        self.victim.start()
        self.victim.follow()

    def _return(self) -> None:
        self.victim.start()
        self.victim.follow()
        for link in self.links:
            link.join()
        self.line.settle()

    @property
    def links(self) -> list[Link]:
        """The victim's."""
        return [link for link in self.line.links if self.victim in link.nodes]

    def channels(self) -> list[Channel]:
        """The victim's."""
        return list(self.victim.switch.channels.values())

    def play(self) -> None:
        self.open()
        self.pay_around(least=0)
        old = self.keep()
        if self.random.random() < 0.3:
            self.change_fees()
        else:
            self.pay_around(least=self.random.choice((1, 1, 2, 5)))
        own_msat = Books._owns_msat(self.victim)
        self.set_back(old)
        # it may wait for them for a while, and blocks do not change its mind
        self.line.mine(self.random.choice((0, 1, 10)))
        said = sent_by(cast(Node, self.victim))
        for link in self.random.sample(self.links, len(self.links)):
            link.join()
            self.line.settle()
        asked = {message.channel_id for _, message in said if isinstance(message, Error)}
        assert asked == self.victim.switch.channels.keys(), "it has not asked its peers to close"
        behind = [channel.phase for channel in self.channels()]
        assert behind == [Phase.BEHIND] * len(self.links), f"{self.victim.name} has not noticed: {behind}"
        for _ in range(DRAIN_BLOCKS):
            self.line.mine()
            self.line.settle()
        self._check(own_msat)

    def _check(self, own_msat: int) -> None:
        for channel in self.channels():
            assert channel.phase is Phase.CLOSED, f"a channel is left in {channel.phase}"
            # reestablish.7
            spends = [
                transaction
                for transaction in self.victim.published.values()
                if transaction.inputs[0].outpoint == channel.charter.funding_outpoint
            ]
            assert not spends, f"{self.victim.name} has published a commitment"
        lost_msat = own_msat - Books._owns_msat(self.victim)
        assert lost_msat <= 1000 * FEES_SAT, f"{self.victim.name} has lost {lost_msat} msat"


def play(directory: Path, seed: int) -> Story:
    """Run one seed to its end."""
    story = Story(directory, seed)
    with story.line:
        try:
            story.play()
        except AssertionError as broken:
            raise AssertionError(f"seed {seed}: {broken}") from broken
    return story
