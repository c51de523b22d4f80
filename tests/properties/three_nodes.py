"""Three nodes in a line under everything that can happen, and what must hold in the end.

A run is a walk of random choices from one seed: payments of any size, whole or in parts, messages
that arrive one by one or all at once, links that break, nodes that die and return, blocks,
reorganisations, rising fees, closes of every kind, and cheats. Then everything that was broken is
mended, time passes, and `Books` does the sums.
"""

import re
from collections.abc import Callable

from htlc.channel import Channel, Phase
from htlc.ladder import SIGNED_NEXT, SIGNED_NOW, Side
from node.daemon.resolver import STALLED
from tests.node.lockstep import quick_directory
from tests.node.plain_node import USERS_WISH, Dead, PlainNode
from tests.properties.books import DEEPEST_REORGANISATION
from tests.properties.three_lives import Scene
from wire.units import msat

DRAIN_BLOCKS = 500
MENDS_BEFORE_PARTS_ARE_GIVEN_BACK = 4
EXPECTED_WHYS = (USERS_WISH, "cheating", "this channel is closed here")
DEADLINE = re.compile(r"HTLC \d+ expired at|HTLC \d+, which is fulfilled, would expire at")
EXPECTED_REFUSALS = (
    "bad-txns-inputs-missingorspent",
    "insufficient fee, rejecting replacement",
    "min relay fee not met",
    "non-BIP68-final",
    "replacement-adds-unconfirmed",
)


class Walk(Scene):
    """One run."""

    # --- the walk

    def walk(self, steps_to_take: int) -> None:
        """Take so many steps, each drawn, and check everything after each."""
        fates = self._drawn_fates(steps_to_take)
        for taken in range(steps_to_take):
            act = fates.get(taken) or self.random.choice(self._choices())
            try:
                act()
            except Dead as dead:
                self.say(f"{dead} died over it")
            self.check()

    def _choices(self) -> tuple[Callable[[], None], ...]:
        return (
            *[self.pay] * 10,
            *[self.pay_in_parts] * 3,
            *[self.pay_parts] * 4,
            self.let_time_pass,
            *[self.deliver_one] * 6,
            *[self.deliver_all] * 10,
            *[self.deliver_to_the_inbox] * 2,
            *[self.cut, self.crash, self.doom] * self.trouble,
            *[self.join] * 5,
            *[self.revive] * 5,
            *[self.hold] * 2,
            *[self.release] * 3,
            *[self.mine] * 3,
            self.change_fee,
            self.reorganise,
            self.change_market,
        )

    def _drawn_fates(self, steps_to_take: int) -> dict[int, Callable[[], None]]:
        """When channels end, and how; some never do."""
        fates: dict[int, Callable[[], None]] = {}
        for link in self.links:
            fate = self.random.choice((None, self.close, self.force_close, self.cheat, self.cheat))
            if fate is not None:
                when = self.random.randrange(steps_to_take // 5, steps_to_take)
                fates[when] = lambda fate=fate, link=link: fate(link)  # type: ignore[misc]
        return fates

    # --- the end

    def drain(self) -> None:
        """Mend everything, let time pass, and return once nothing is left to happen."""
        self.say("drain")
        for node in self.nodes:
            node.is_holding = False
            node.words_left = None
            node.store.dies_before = node.store.dies_after = None
            if not node.is_alive:
                self._revive(node)
        for _ in range(MENDS_BEFORE_PARTS_ARE_GIVEN_BACK):
            self._mend()
        self._check_quiet()
        self.line.mine(DEEPEST_REORGANISATION)
        for _ in range(DRAIN_BLOCKS):
            self._mend()
            if self._is_over():
                return
            self.line.mine()
        raise AssertionError("it does not come to an end: " + self._unfinished())

    def _mend(self) -> None:
        for link in self.links:
            if not link.is_up:
                link.join()
        self.line.settle()
        self.let_time_pass()
        for node in self.nodes:
            node.follow()
            if node.held:
                node.held = [each for each in node.held if self._is_worth_taking(node, each[0], each[1].id)]
                node.release()
        self.line.settle()

    def _check_quiet(self) -> None:
        """Where all channels are open, nothing has to wait for a block."""
        channels = [channel for node in self.nodes for channel in node.switch.channels.values()]
        if all(channel.phase is Phase.NORMAL for channel in channels):
            for channel in channels:
                stuck = [htlc.id for htlc in channel.all_htlcs()]
                assert not stuck, f"HTLCs {stuck} of {channel.id.hex()[:6]} are stuck"

    def _is_over(self) -> bool:
        return not self._unfinished()

    def _unfinished(self) -> str:
        """What is still under way."""
        found = [
            f"{node.name}: {channel.id.hex()[:6]} {channel.phase.value}"
            for node in self.nodes
            for channel in node.switch.channels.values()
            if not self._is_at_rest(node, channel)
        ]
        return "; ".join([*found, *self.books.pending()])

    @staticmethod
    def _is_at_rest(node: PlainNode, channel: Channel) -> bool:
        if channel.phase is Phase.CLOSED:
            resolution = node.switch.resolver.resolutions.get(channel.id)
            return resolution is None or resolution.is_done
        is_quiet = not (channel.htlcs.local or channel.htlcs.remote or channel.fee_changes)
        is_deep = channel.short_channel_id is not None
        return channel.phase is Phase.NORMAL and is_quiet and is_deep and not channel.is_awaiting_revocation

    # --- what must hold

    def check(self) -> None:
        """After every step: every commitment holds all of its funding, and nobody was rude."""
        for node in self.nodes:
            if node.is_alive:
                for channel in node.switch.channels.values():
                    if self._checked.get((node.name, channel.id)) is not channel:
                        self._check_sums(channel)
                        self._checked[node.name, channel.id] = channel
        self._check_manners()

    @staticmethod
    def _check_sums(channel: Channel) -> None:
        for owner in Side:
            for floor in (SIGNED_NOW, SIGNED_NEXT):
                spec = channel.spec(owner, channel.number[owner], floor)
                total_msat = sum(htlc.amount_msat for htlc in spec.htlcs)
                assert spec.to_owner_msat + spec.to_other_msat + total_msat == msat(
                    channel.charter.funding_sat
                )
                assert spec.to_owner_msat >= 0 <= spec.to_other_msat

    def _check_manners(self) -> None:
        self.counts["deadlines"] = sum(bool(DEADLINE.match(why)) for _, why in self.failures.whys)
        for channel, why in self.failures.whys:
            is_expected = why.startswith(EXPECTED_WHYS) or DEADLINE.match(why)
            assert is_expected, f"{channel} was failed: {why}"
        for node in self.nodes:
            for channel_id, why in node.warnings:
                # who has gone back to an old state does not understand what it is told
                is_forgiven = why == STALLED or channel_id in self.books.cheats
                assert is_forgiven, f"{node.name} warned: {why}"
            for transaction, why in node.refused:
                assert why.startswith(EXPECTED_REFUSALS), f"{node.name}: {why}: {transaction}"


def run_of(seed: int, steps_to_take: int = 100) -> Walk:
    """One run; what breaks says which seed replays it, and tells its story."""
    with quick_directory() as directory, Walk(directory, seed) as walk:
        try:
            walk.begin()
            walk.walk(steps_to_take)
            walk.drain()
            walk.books.close()
            walk.counts["completed"] += walk.books.completed
            walk.counts["in parts"] += walk.books.completed_in_parts
            walk.counts["punished"] += walk.books.punished
        except Exception as broken:
            story = "\n".join(walk.story[-80:])
            raise AssertionError(f"RILL_SEED={seed} replays it: {broken!r}\n{story}") from broken
    return walk
