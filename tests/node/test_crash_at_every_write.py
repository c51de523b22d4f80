"""A node may die over any write to its database, before it or after it, and nothing is lost.

One story is told again and again: two channels are opened, ten payments go over the middle node,
one fails, both channels are closed together. In each telling another node dies over another of its
commits. It comes back from its database, everybody connects again, and the story goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice, product

import pytest

from htlc.channel import Channel, Phase
from htlc.deadlines import FUNDING_BLOCKS, is_abandoned
from htlc.errors import ChannelError
from htlc.ladder import REMOTE
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, Wish
from node.daemon.payments import Status
from tests.bolt import bolt
from tests.node.lockstep import Line, Link, quick_directory
from tests.node.plain_node import Dead, PlainNode
from tests.properties.books import DEEPEST_REORGANISATION, Books
from wire.features import SIMPLE_CLOSE
from wire.units import Msat, Sat

NAMES = ("alice", "bob", "carol")
AMOUNT_MSAT = 10_000_000
CAPACITY_SAT = 1_000_000
NOTHING_MSAT = Msat(0)
COINS_SAT = (1_100_000, 100_000)


class Story:
    """One telling."""

    def __init__(self, line: Line, channel_type: bytes) -> None:
        self.line, self.channel_type = line, channel_type
        self.alice, self.bob, self.carol = line.nodes
        self.deaths = 0

    def tell(self) -> None:
        """From the first coin to the last block."""
        for node, value_sat in product(self.line.nodes, COINS_SAT):
            self.insist(lambda node=node, value_sat=value_sat: self._give(node, value_sat))  # type: ignore[misc]
        self.line.mine(DEEPEST_REORGANISATION)
        self.books = Books(self.line)
        self._mend()
        for link in self.line.links:
            self.insist(lambda link=link: self._open(link))  # type: ignore[misc]
        for number in range(5):
            self.go_on(lambda number=number: self._pay(number))  # type: ignore[misc]
        self.go_on(lambda: self._pay(5, is_known=False))
        self.go_on(lambda: self._pay_at_once(range(6, 11)))
        self._check_payments()
        for link, closer in zip(self.line.links, (self.alice, self.carol), strict=True):
            self.insist(lambda link=link, closer=closer: self._close(link, closer))  # type: ignore[misc]
        self.line.mine(6)
        self._mend()
        self.books.close()
        self._check_closed()

    # --- how it goes on

    def go_on(self, act: Callable[[], object]) -> None:
        """Let something happen, and whatever follows; the dead return."""
        with suppress(Dead):
            act()
        self._mend()

    def insist(self, act: Callable[[], bool]) -> None:
        """Let something happen until it has."""
        is_done = False
        for _ in range(4):
            try:
                is_done = act()
            except Dead:
                is_done = False
            self._mend()
            if is_done:
                return
        raise AssertionError("it does not happen")

    def _mend(self) -> None:
        while True:
            for node in self.line.nodes:
                if not node.is_alive:
                    self.deaths += 1
                    node.start()
                node.follow()
            for link in self.line.links:
                if not link.is_up:
                    link.join()
            self.line.settle()
            if all(node.is_alive for node in self.line.nodes) and all(link.is_up for link in self.line.links):
                return

    # --- what happens

    @staticmethod
    def channel(link: Link) -> Channel | None:
        """The channel that both ends know."""
        a, b = link.nodes
        known = a.switch.channels.keys() & b.switch.channels.keys()
        return next((c for i, c in a.switch.channels.items() if i in known), None)

    def _give(self, node: PlainNode, value_sat: int) -> bool:
        self.line.fund([(node, value_sat)])
        return True

    def _open(self, link: Link) -> bool:
        channel = self.channel(link)
        if channel is None:
            wish = Wish(Sat(CAPACITY_SAT), NOTHING_MSAT, 1000, self.channel_type, True)
            self.line.begin_opening(link, wish)
            self.line.settle()
            return False
        if channel.phase is Phase.AWAITING_FUNDING:
            self.line.mine(3)
            self.line.settle()
            return False
        return channel.phase is Phase.NORMAL

    def _pay(self, number: int, *, is_known: bool = True) -> None:
        invoice = self.carol.add_invoice(AMOUNT_MSAT, number)
        payment_hash = invoice.payment_hash if is_known else bytes(32)
        route = self.line.route(self.alice, self.carol, AMOUNT_MSAT)
        self.books.enter(self.alice, self.carol, payment_hash, route)
        try:
            self.alice.pay(route, payment_hash, invoice.payment_secret)
        except ChannelError:
            # whoever died has not come back yet
            assert not self.bob.is_alive or not self.carol.is_alive

    def _pay_at_once(self, numbers: range) -> None:
        for number in numbers:
            self._pay(number)

    def _check_payments(self) -> None:
        """What was paid is known at both ends; at most what somebody died over has failed."""
        assert not self.books.pending()
        statuses = [self.books.status(entry) for entry in self.books.entries]
        assert statuses[5] is not Status.COMPLETE or len(statuses) < 11
        assert self.books.completed >= (10 if not self.deaths else 4)

    def _close(self, link: Link, closer: PlainNode) -> bool:
        channel = self.channel(link)
        assert channel is not None, "it was opened"
        if channel.phase is Phase.NORMAL and channel.id not in closer.switch.closings.wishes:
            closer.close(channel.id)
        self.line.settle()
        self.line.mine()
        channel = self.channel(link)
        return channel is not None and channel.phase is Phase.CLOSED

    def _check_closed(self) -> None:
        """No channel is left, but perhaps one that its opener has died over and never funded."""
        for node in self.line.nodes:
            for channel in node.switch.channels.values():
                if channel.phase is not Phase.CLOSED:
                    assert channel.charter.opener is REMOTE
                    assert channel.short_channel_id is None
                    assert is_abandoned(channel, self.line.chain.regtest.height + FUNDING_BLOCKS)


def told(name: str = "", commits: int = 0, *, is_after: bool = False) -> list[int]:
    """The story in which that node dies over that commit of its own; how many commits each made.

    Both formats and both ways to close take turns.
    """
    channel_type = STATIC_REMOTEKEY_TYPE if commits & 1 else ANCHORS_TYPE
    with quick_directory() as directory, Line(directory, " ".join(NAMES)) as line:
        for node in line.nodes if commits & 2 else ():
            node.features = node.features.without(SIMPLE_CLOSE)
        if name:
            line[name].doom(commits=commits, is_after=is_after)
        story = Story(line, channel_type)
        try:
            story.tell()
        except Exception as broken:
            when = "after" if is_after else "before"
            raise AssertionError(f"{name} died {when} its commit {commits}, and then: {broken!r}") from broken
        assert story.deaths == bool(name), "a node dies where it was told to"
        return [node.store.commits for node in line.nodes]


def commits_of(name: str) -> Iterator[int]:
    """Every commit of a node that its story has, without the one of its first start."""
    place = NAMES.index(name)
    counts = [told(commits=kind)[place] - 1 for kind in range(4)]
    return (commits for commits in range(max(counts)) if commits < counts[commits & 3])


every_death = bolt(
    "commitment_signed-revoke_and_ack.5",
    "funding_created-funding_signed.4",
    "forwarding-safety.1",
    "forwarding-safety.2",
    "reestablish.1",
    "reestablish.2",
    "reestablish.5",
    "reestablish.6",
    "reestablish.8",
)


@every_death
@pytest.mark.parametrize("name", NAMES)
def test_a_node_may_die_over_its_writes(name: str) -> None:
    for commits in islice(commits_of(name), None, None, 9):
        told(name, commits, is_after=bool(commits & 4))


@pytest.mark.slow
@every_death
@pytest.mark.parametrize("name", NAMES)
def test_a_node_may_die_over_any_write(name: str) -> None:
    for commits, is_after in product(commits_of(name), (False, True)):
        told(name, commits, is_after=is_after)
