"""What can happen to three nodes in a line: the scene of `three_nodes`, and each single event.

Every event is drawn from the run's random numbers and told in its story.
"""

import logging
from collections import Counter
from itertools import permutations
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from htlc import steps
from htlc.channel import Channel, Phase
from htlc.errors import ChannelError, NotUsable
from htlc.ladder import LOCAL
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, House, Wish
from htlc.reestablish import disconnected
from htlc.relay import Toll
from htlc.resolution_claims import our_commitment
from node.daemon.gathering import PATIENCE_SECONDS
from node.daemon.invoices import InvoiceRow
from node.daemon.turn import Turn
from tests.node.lockstep import Line, Link
from tests.node.plain_node import PlainNode
from tests.properties.books import DEEPEST_REORGANISATION, Books, Cheat
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.tx import Transaction
from wire.crypto.hashes import sha256
from wire.features import SIMPLE_CLOSE
from wire.units import Msat, Sat

COINS_SAT = (400_000, 400_000, 400_000, 400_000)
CAPACITIES_SAT = (100_000, 1_000_000, 10_000_000)
FEERATES_PER_KW = (253, 500, 1000, 2500)
MOST_LAG_BLOCKS = 3
# in most lives time passes slowly, in some HTLCs expire
PACES_BLOCKS = (*[(1, 1, 1, 2, 6)] * 3, (1, 6, 12, 24))


class Failures(logging.Handler):
    """Why channels were failed, as the nodes log it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.whys: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "failing a channel":
            self.whys.append((record.__dict__["channel"], record.__dict__["why"]))


class Scene:
    """Three nodes, two channels, and everything that may befall them."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random, self.story = Random(seed), list[str]()
        self.counts: Counter[str] = Counter()
        self.failures = Failures()
        random = self.random
        house = House(
            CHAIN_HASH["regtest"],
            to_self_delay_blocks=random.choice((12, 24, 144)),
            dust_limit_sat=Sat(random.choice((354, 546, 1000))),
            max_accepted_htlcs=random.choice((3, 30, 483)),
        )
        toll = Toll(Msat(random.choice((0, 1, 1000))), random.choice((0, 10, 5000)))
        self.line = Line(directory, "alice bob carol", house, toll)
        self.nodes, self.links = self.line.nodes, self.line.links
        if random.random() < 0.5:
            for node in self.nodes:
                node.features = node.features.without(SIMPLE_CLOSE)
        self.trouble = random.choice((0, 1, 1, 2))
        self.pace_blocks = random.choice(PACES_BLOCKS)
        self.next_number = 0
        # payer, payee, invoice, amount and number of parts that are still to be sent
        self.parts: list[tuple[PlainNode, PlainNode, InvoiceRow, int, int]] = []
        # every state of every channel, by node and the number of its own commitment
        self.states: dict[tuple[str, bytes], dict[int, Channel]] = {}
        self._checked: dict[tuple[str, bytes], Channel] = {}
        self.ids: dict[tuple[str, str], bytes] = {}

    def __enter__(self) -> Self:
        logging.getLogger("rill.switch").addHandler(self.failures)
        self.line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.__exit__(kind, error, trace)
        logging.getLogger("rill.switch").removeHandler(self.failures)

    def say(self, what: str) -> None:
        self.story.append(what)

    # --- the beginning

    def begin(self) -> None:
        """Coins for everybody, and a channel between each two neighbours."""
        line = self.line
        for node in self.nodes:
            node.on_start.append(self._remember)
            self._remember(node)
        coins = [(node, value_sat) for node in self.nodes for value_sat in COINS_SAT]
        line.fund([*coins, *((link.nodes[0], 10_100_000) for link in self.links)])
        line.mine(DEEPEST_REORGANISATION)
        self.books = Books(line)
        for link in self.links:
            self._open(link)
        line.mine(3)
        line.settle()
        assert all(c.phase is Phase.NORMAL for node in self.nodes for c in node.switch.channels.values())

    def _open(self, link: Link) -> None:
        random, (opener, accepter) = self.random, link.nodes
        capacity_sat = random.choice(CAPACITIES_SAT)
        channel_type = random.choice((ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE))
        push_msat = Msat(random.choice((0, 300 * capacity_sat, 500 * capacity_sat)))
        wish = Wish(Sat(capacity_sat), push_msat, random.choice(FEERATES_PER_KW), channel_type, False)
        link.join()
        opening = self.line.begin_opening(link, wish)
        self.line.settle()
        assert opening.channel is not None, "the nodes agree"
        self.ids[opener.name, accepter.name] = self.ids[accepter.name, opener.name] = opening.channel.id
        self.books.push(opener, accepter, push_msat)
        self.say(f"open {capacity_sat} push {push_msat} {channel_type.hex()} at {wish.feerate_per_kw}")

    def _remember(self, node: PlainNode) -> None:
        def note(channels: list[Channel]) -> None:
            for channel in channels:
                if channel.id not in self.books.cheats:
                    states = self.states.setdefault((node.name, channel.id), {})
                    states[channel.number.local] = channel

        node.switch.on_channels_changed.append(note)

    # --- payments

    def pay(self) -> None:
        """An invoice that is paid over one hop or two, or a payment that nobody asked for."""
        random = self.random
        payer, payee = random.choice([*permutations(self.nodes, 2)])
        if not (payer.is_alive and payee.is_alive):
            return
        amount_msat = 10 ** random.randrange(9) * random.choice((1, 1, random.randrange(1, 10)))
        number, self.next_number = self.next_number, self.next_number + 1
        invoice = payee.add_invoice(amount_msat, number)
        payment_hash = invoice.payment_hash if random.random() < 0.9 else sha256(b"%d" % number)
        self.say(f"{payer.name} pays {payee.name} {amount_msat}, number {number}")
        route = self.line.route(payer, payee, amount_msat, random.choice((3, 3, 10)))
        self.books.enter(payer, payee, payment_hash, route)
        try:
            payer.pay(route, payment_hash, invoice.payment_secret)
        except ChannelError as refused:
            self.say(f"refused: {refused}")
        else:
            self.counts["sent"] += 1

    def pay_in_parts(self) -> None:
        """The first part of a payment; the others follow when chance wants, or never."""
        random = self.random
        payer, payee = random.choice([*permutations(self.nodes, 2)])
        if not (payer.is_alive and payee.is_alive):
            return
        count = random.choice((2, 2, 3, 5))
        amounts = [10 ** random.randrange(9) * random.randrange(1, 10) for _ in range(count)]
        number, self.next_number = self.next_number, self.next_number + 1
        invoice = payee.add_invoice(sum(amounts), number)
        self.say(f"{payer.name} will pay {payee.name} {amounts} in parts, number {number}")
        self.parts += [(payer, payee, invoice, amount, i) for i, amount in enumerate(amounts, start=1)]
        self.pay_parts()

    def pay_parts(self) -> None:
        """Another part, or a few, of what is paid in parts."""
        for _ in range(min(len(self.parts), self.random.choice((1, 1, 2, 5)))):
            payer, payee, invoice, amount_msat, part_id = self.parts.pop()
            if payer.is_alive and payee.is_alive:
                self.say(f"{payer.name} sends {payee.name} part {part_id}, {amount_msat}")
                route = self.line.route(payer, payee, amount_msat, self.random.choice((3, 10)))
                total_msat = invoice.amount_msat
                self.books.enter(payer, payee, invoice.payment_hash, route, part_id)
                try:
                    payer.pay(route, invoice.payment_hash, invoice.payment_secret, total_msat, part_id)
                except ChannelError as refused:
                    self.say(f"refused: {refused}")
                else:
                    self.counts["parts"] += 1

    def let_time_pass(self) -> None:
        """Half a minute goes by, so that parts without the rest are given back."""
        self.say("half a minute passes")
        for node in self.nodes:
            node.let_time_pass(PATIENCE_SECONDS / 2)

    def hold(self) -> None:
        """Whether HTLCs for a node wait until something else has happened."""
        node = self.random.choice(self.nodes)
        node.is_holding = not node.is_holding
        self.say(f"{node.name} holds: {node.is_holding}")

    def release(self) -> None:
        node = self.random.choice(self.nodes)
        if node.is_alive and node.held:
            self.say(f"{node.name} releases {len(node.held)}")
            node.held = [each for each in node.held if self._is_worth_taking(node, each[0], each[1].id)]
            node.release()

    @staticmethod
    def _is_worth_taking(node: PlainNode, channel_id: bytes, htlc_id: int) -> bool:
        """Nobody reveals a preimage for an HTLC that has gone to chain without an output."""
        channel = node.switch.channels[channel_id]
        htlc = channel.htlcs.remote.get(htlc_id)
        is_over = channel.phase in (Phase.FAILED, Phase.CLOSED)
        return htlc is not None and not (is_over and htlc.amount_msat < 5_000_000)

    def change_fee(self) -> None:
        link = self.random.choice(self.links)
        opener, channel_id = link.nodes[0], self.ids[link.nodes[0].name, link.nodes[1].name]
        feerate_per_kw = self.random.choice(FEERATES_PER_KW)
        if not opener.is_alive:
            return

        def act(turn: Turn) -> None:
            channel = turn.channel(channel_id)
            assert channel is not None, "it was opened"
            if channel_id not in opener.switch.live:
                raise NotUsable("not connected")
            turn.take(steps.change_fee(channel, feerate_per_kw))
            turn.saved[channel_id] = None

        self.say(f"{opener.name} wants a fee of {feerate_per_kw}")
        try:
            opener.ask(act)
        except ChannelError as refused:
            self.say(f"refused: {refused}")
        else:
            self.counts["fee changes"] += 1

    # --- messages and links

    def _busy(self) -> list[tuple[Link, int]]:
        return [(link, to) for link in self.links for to in (0, 1) if link.waiting(to)]

    def deliver_one(self) -> None:
        self._deliver(1, is_turning=True)

    def deliver_to_the_inbox(self) -> None:
        """A message arrives that is taken up together with whatever comes next."""
        self._deliver(self.random.randrange(1, 4), is_turning=False)

    def _deliver(self, count: int, *, is_turning: bool) -> None:
        busy = self._busy()
        if busy:
            link, to = self.random.choice(busy)
            self.say(
                f"{link.nodes[to].name} hears {count} of {link.waiting(to)} from {link.nodes[1 - to].name}"
            )
            link.deliver(to, count)
            if is_turning:
                link.nodes[to].turn()

    def deliver_all(self) -> None:
        """All that is under way on one link, and all that is said to it."""
        link = self.random.choice(self.links)
        self.say(f"everything between {link.nodes[0].name} and {link.nodes[1].name} arrives")
        while link.waiting(0) or link.waiting(1):
            for to in (0, 1):
                link.deliver(to, link.waiting(to))
                link.nodes[to].turn()

    def cut(self) -> None:
        link = self.random.choice(self.links)
        if link.ends:
            self.say(f"the link of {link.nodes[0].name} and {link.nodes[1].name} breaks")
            self.counts["cuts"] += 1
            link.cut()

    def join(self) -> None:
        """A link is there again; now and then over one that nobody knew to be broken."""
        down = [link for link in self.links if not link.is_up]
        link = self.random.choice(down or self.links)
        if down or self.random.random() < 0.1:
            self.say(f"{link.nodes[0].name} and {link.nodes[1].name} are connected")
            link.join()

    # --- death and return

    def crash(self) -> None:
        node = self.random.choice(self.nodes)
        if node.is_alive:
            self.say(f"{node.name} crashes")
            self.check_disk(node)
            node.die()

    def doom(self) -> None:
        """Death is near: before or after a commit, or between two words."""
        node = self.random.choice(self.nodes)
        if not node.is_alive:
            return
        kind, count = self.random.choice(("before", "after", "word")), self.random.randrange(4)
        self.say(f"{node.name} will die: {kind} {count}")
        if kind == "word":
            node.words_left = count
        else:
            node.doom(commits=count, is_after=kind == "after")

    def revive(self) -> None:
        dead = [node for node in self.nodes if not node.is_alive]
        if dead:
            self._revive(self.random.choice(dead))

    def _revive(self, node: PlainNode) -> None:
        self.say(f"{node.name} comes back")
        self.counts["deaths over a commit or a word" if node.was_killed else "crashes"] += 1
        node.start()
        node.follow()

    # --- the chain

    def mine(self) -> None:
        count = self.random.choice(self.pace_blocks)
        self.say(f"{count} blocks")
        for _ in range(count):
            self.line.chain.regtest.mine(1, self.line.chain.faucet.script)
            self._follow()

    def _follow(self) -> None:
        """Everybody who lives reads the chain, now or a little later."""
        for node in self.nodes:
            if not node.is_alive and self.line.chain.regtest.height - node.switch.height >= MOST_LAG_BLOCKS:
                self._revive(node)
            lag = self.random.choice((0, 0, 0, 1, 2))
            node.follow(max(0, self.line.chain.regtest.height - node.switch.height - lag))

    def reorganise(self) -> None:
        depth = self.random.randrange(1, DEEPEST_REORGANISATION + 1)
        is_empty = self.random.random() < 0.3
        is_forgetful = is_empty and self.random.random() < 0.5
        self.say(f"{depth} blocks are replaced" + (", and nothing confirms" if is_empty else ""))
        self.counts["reorganisations"] += 1
        chain = self.line.chain
        chain.regtest.reorganise(depth, chain.faucet.script, () if is_empty else None)
        if is_forgetful:
            self.say("the mempool forgets everything")
            chain.regtest.mempool.clear()
        for node in self.nodes:
            node.follow()

    def change_market(self) -> None:
        self.line.chain.feerate_now_per_kw = self.random.choice((253, 500, 1000, 3000, 8000))
        self.say(f"a confirmation costs {self.line.chain.feerate_now_per_kw}")

    # --- ends

    def _end_of(self, link: Link) -> tuple[PlainNode, Channel] | None:
        """A living end of the link that can still do something about its channel."""
        node, other = self.random.sample(link.nodes, 2)
        if not node.is_alive:
            return None
        channel = node.switch.channels[self.ids[node.name, other.name]]
        return None if channel.phase in (Phase.FAILED, Phase.CLOSED, Phase.CLOSING) else (node, channel)

    def close(self, link: Link) -> None:
        found = self._end_of(link)
        if found:
            node, channel = found
            self.say(f"{node.name} wants to close {channel.id.hex()[:6]}")
            self.counts["closes"] += 1
            try:
                node.close(channel.id)
            except ChannelError as refused:
                self.say(f"refused: {refused}")

    def force_close(self, link: Link) -> None:
        found = self._end_of(link)
        if found:
            node, channel = found
            self.say(f"{node.name} goes to chain with {channel.id.hex()[:6]}")
            self.counts["force-closes"] += 1
            node.force_close(channel.id)

    def cheat(self, link: Link) -> None:
        """One end goes to chain with a state that it has revoked, as if it were its newest."""
        found = self._end_of(link)
        if not found:
            return
        node, channel = found
        revoked = [n for n in self.states[node.name, channel.id] if n < channel.number.local]
        with_htlcs = [n for n in revoked if self.states[node.name, channel.id][n].spec(LOCAL, n).htlcs]
        if not revoked:
            return
        number = self.random.choice(with_htlcs or revoked)
        old = replace(self.states[node.name, channel.id][number], phase=Phase.NORMAL)
        self.say(f"{node.name} publishes state {number} of {channel.number.local} of {channel.id.hex()[:6]}")
        self.counts["cheats"] += 1
        self.books.cheats[channel.id] = Cheat(node.name, number, self._commitment(node, old))

        def act(turn: Turn) -> None:
            turn.put(old)
            turn.fail_channel(old, "cheating", is_told=False)

        node.ask(act)

    @staticmethod
    def _commitment(node: PlainNode, channel: Channel) -> Transaction:
        return our_commitment(channel, node.signer.channel_secrets(channel.charter.key_index))

    def check_disk(self, node: PlainNode) -> None:
        """What a crash leaves of the channels is what it must leave (reestablish.2)."""
        on_disk = {channel.id: disconnected(channel) for channel in node.store.channels()}
        assert on_disk == {i: disconnected(channel) for i, channel in node.switch.channels.items()}
