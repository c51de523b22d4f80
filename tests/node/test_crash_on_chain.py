"""A node may die over any write while its channel ends on the chain, and nothing is lost.

Two channels are open, HTLCs are on their way over both in either direction, and then the far one
ends: closed by Bob alone, or by Carol with a state that she has revoked. In each telling another
node dies over another of its commits, and comes back from its database.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import pytest
from msgspec.structs import replace

from htlc.channel import Channel, Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, House, Wish
from htlc.relay import Toll
from htlc.resolution_claims import our_commitment
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.lockstep import Line, quick_directory
from tests.node.plain_node import Dead, PlainNode
from tests.properties.books import DEEPEST_REORGANISATION, Books, Cheat
from wire.bitcoin.block import CHAIN_HASH
from wire.units import Msat, Sat

NAMES = ("alice", "bob", "carol")
AMOUNT_MSAT = 10_000_000
CAPACITY_SAT = 1_000_000
COINS_SAT = (1_100_000, 100_000, 100_000, 100_000)
LAST_BLOCKS = 250
TOLL = Toll(Msat(1000), 0)  # in whole satoshis, so that a commitment rounds nothing off


class Story:
    """One telling."""

    def __init__(self, line: Line, channel_type: bytes) -> None:
        self.line, self.channel_type = line, channel_type
        self.alice, self.bob, self.carol = line.nodes
        self.number = 0

    def begin(self) -> None:
        """Two channels, with some past, and HTLCs on their way."""
        line = self.line
        line.fund((node, value_sat) for node in line.nodes for value_sat in COINS_SAT)
        line.mine(DEEPEST_REORGANISATION)
        self.books = Books(line)
        for link in line.links:
            link.join()
            wish = Wish(Sat(CAPACITY_SAT), Msat(CAPACITY_SAT * 500), 1000, self.channel_type, True)
            line.begin_opening(link, wish)
            line.settle()
            opener, accepter = link.nodes
            self.books.push(opener, accepter, wish.push_msat)
        line.mine(3)
        line.settle()
        self.carol.is_holding = True
        self.pay(self.alice, self.carol)
        self.old = self.carol.channel_with(self.bob)
        for payer, payee in ((self.bob, self.alice), (self.carol, self.bob), (self.bob, self.carol)):
            self.pay(payer, payee)
        self.alice.is_holding = True
        self.pay(self.carol, self.alice)

    def pay(self, payer: PlainNode, payee: PlainNode) -> None:
        invoice = payee.add_invoice(AMOUNT_MSAT, self.number)
        self.number += 1
        route = self.line.route(payer, payee, AMOUNT_MSAT)
        self.books.enter(payer, payee, invoice.payment_hash, route)
        payer.pay(route, invoice.payment_hash, invoice.payment_secret)
        self.line.settle()

    # --- how it ends

    def go_to_chain(self) -> None:
        """Bob closes the channel alone; then Carol takes one of her HTLCs there, and the others lapse."""
        self.bob.force_close(self.bob.channel_with(self.carol).id)
        self.mend()
        self.line.mine(2)
        self.mend()
        if self.carol.held:
            self.carol.release()

    def cheat(self) -> None:
        """Carol publishes a state that she has revoked, as if it were her newest."""
        carol, old = self.carol, replace(self.old, phase=Phase.NORMAL)
        commitment = our_commitment(old, carol.signer.channel_secrets(old.charter.key_index))
        self.books.cheats[old.id] = Cheat(carol.name, old.number.local, commitment)

        def act(turn: Turn) -> None:
            turn.put(old)
            turn.fail_channel(old, "cheating", is_told=False)

        carol.ask(act)

    def end(self) -> None:
        """Blocks until nothing is left to happen."""
        self.alice.is_holding = self.carol.is_holding = False
        for _ in range(LAST_BLOCKS):
            self.mend()
            if all(map(self._is_at_rest, self.line.nodes)) and not self.books.pending():
                break
            self.line.mine()
        self.books.close()
        assert self.books.punished == len(self.books.cheats)

    def mend(self) -> None:
        """The dead return, and everybody hears everything."""
        while True:
            for node in self.line.nodes:
                if not node.is_alive:
                    node.start()
                node.follow()
            for link in self.line.links:
                if not link.is_up:
                    link.join()
            self.line.settle()
            if all(node.is_alive for node in self.line.nodes):
                return

    @staticmethod
    def _is_at_rest(node: PlainNode) -> bool:
        return all(map(_is_quiet, node.switch.channels.values())) and all(
            resolution.is_done for resolution in node.switch.resolver.resolutions.values()
        )


def _is_quiet(channel: Channel) -> bool:
    has_htlcs = bool(channel.htlcs.local or channel.htlcs.remote)
    return channel.phase is Phase.CLOSED or (channel.phase is Phase.NORMAL and not has_htlcs)


def told(ending: Callable[[Story], None], name: str = "", commits: int = 0) -> list[int]:
    """The story in which that node dies over that commit; how many each node made since the ending began.

    Both formats, and death before and after a commit, take turns.
    """
    channel_type = STATIC_REMOTEKEY_TYPE if commits & 1 else ANCHORS_TYPE
    house = House(CHAIN_HASH["regtest"], to_self_delay_blocks=12)
    with quick_directory() as directory, Line(directory, " ".join(NAMES), house, TOLL) as line:
        story = Story(line, channel_type)
        story.begin()
        begun = [node.store.commits for node in line.nodes]
        lives: list[PlainNode] = []
        for node in line.nodes:
            node.on_start.append(lives.append)
        if name:
            line[name].doom(commits=commits, is_after=bool(commits & 2))
        try:
            with suppress(Dead):
                ending(story)
            story.end()
        except Exception as broken:
            raise AssertionError(f"{name} died over its commit {commits}, and then: {broken!r}") from broken
        assert len(lives) == bool(name), "a node dies where it was told to"
        return [node.store.commits - count for node, count in zip(line.nodes, begun, strict=True)]


ENDINGS = [(Story.go_to_chain, "bob"), (Story.go_to_chain, "carol"), (Story.cheat, "bob")]
every_death = bolt("b5-on-chain.1", "b5-on-chain.3", "b5-on-chain.4", "b5-on-chain.6", "forwarding-safety.2")


def deaths(ending: Callable[[Story], None], name: str, step: int) -> None:
    """Tell of every so many-th death."""
    place = NAMES.index(name)
    most = [told(ending, commits=kind)[place] for kind in range(2)]
    for commits in islice(range(min(most)), None, None, step):
        told(ending, name, commits)


@every_death
@pytest.mark.parametrize(("ending", "name"), ENDINGS)
def test_a_node_may_die_over_its_writes_while_a_channel_ends(
    ending: Callable[[Story], None], name: str
) -> None:
    deaths(ending, name, 19)


@pytest.mark.slow
@every_death
@pytest.mark.parametrize(("ending", "name"), ENDINGS)
def test_a_node_may_die_over_any_write_while_a_channel_ends(
    ending: Callable[[Story], None], name: str
) -> None:
    deaths(ending, name, 1)
