"""A node without a socket, a task or a clock: the daemon's own parts, called by hand.

It has the real store on a real file, the real owner loop, wallet, watcher and resolver. What trio
schedules in a running node a test calls here: a turn, a message, a block, a death.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from gossip.graph import Graph
from gossip.routes import Route
from htlc.channel import Channel
from htlc.market import Market
from htlc.opening import House
from htlc.relay import Toll
from node.chain.embedded import EmbeddedChain
from node.chain.interface import MIN_FEERATE_PER_KW, Rejected, Tip
from node.daemon.closings import ClosingWish
from node.daemon.errand import Errand
from node.daemon.invoices import InvoiceRow, new_invoice
from node.daemon.paying import Payer, Wanted
from node.daemon.payments import PaymentRow
from node.daemon.peer import ALL_CHANNELS, Peer
from node.daemon.signer import Signer
from node.daemon.store import Store
from node.daemon.switch import Request, Switch
from node.daemon.turn import Turn, resume
from node.daemon.wallet import SCHEMA as WALLET_SCHEMA
from node.daemon.wallet import Wallet
from node.daemon.watch import Watcher
from wire.bitcoin.tx import Transaction
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point
from wire.features import OUR_INIT
from wire.messages.base import Warning, said
from wire.messages.catalogue import encode
from wire.units import Msat

T = TypeVar("T")
NOW_SECONDS = 1_790_000_000
FINAL_DELTA_BLOCKS = 18
USERS_WISH = "closed at our user's wish"


class Killed(BaseException):
    """The process ends here, as by SIGKILL: nothing below may catch it."""


class Dead(Exception):
    """Something was asked of a node that has died over it, or before."""


class DoomedStore(Store):
    """A store whose process may be killed right before or right after one of its commits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, WALLET_SCHEMA)
        # a killed process loses nothing that SQLite has handed to the kernel
        self.db.execute("pragma synchronous=off")
        self.dies_before: int | None = None
        self.dies_after: int | None = None

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with super().transaction() as db:
            yield db
            if self.commits == self.dies_before:
                raise Killed
        if self.commits - 1 == self.dies_after:
            raise Killed


class End:
    """One end of a connection, as the owner loop sees its peer."""

    def __init__(self, node_id: Point, node: "PlainNode") -> None:
        self.node_id, self.node = node_id, node
        self.features = node.features
        self.said: deque[bytes] = deque()
        self.on_closing: Callable[[Peer], None] = lambda _: None
        self.is_closing = False
        self.is_heard = True
        self.gone_because = ""

    @property
    def peer(self) -> Peer:
        return cast(Peer, self)

    def agrees_on(self, name: str) -> bool:
        return self.node.features.has(name)

    def outlives(self, newer: Peer, our_id: Point) -> bool:
        """A link is joined by one side alone, so calls never cross."""
        return False

    def send(self, message: Message) -> None:
        if self.is_closing:
            return
        if self.node.words_left is not None:
            if self.node.words_left == 0:
                raise Killed
            self.node.words_left -= 1
        self.said.append(encode(message))

    def warn(self, why: str, channel_id: bytes = ALL_CHANNELS) -> None:
        self.node.warnings.append((channel_id, why))
        self.send(Warning(channel_id, said(why)))
        self.close(why)

    def close(self, why: str) -> None:
        if not self.is_closing:
            self.is_closing, self.is_heard, self.gone_because = True, False, why
            self.on_closing(self.peer)


class PlainNode:
    """A node: what it has on disk, and while it lives what it has in memory."""

    def __init__(self, name: str, directory: Path, chain: EmbeddedChain, house: House, toll: Toll) -> None:
        self.name, self.directory, self.chain, self.house, self.toll = name, directory, chain, house, toll
        self.signer = Signer(sha256(name.encode()))
        self.features = OUR_INIT  # what both sides of its connections have agreed on
        self.is_alive = False
        self.seconds: float = NOW_SECONDS
        self.words_left: int | None = None  # how many messages it may send before it dies
        self.warnings: list[tuple[bytes, str]] = []
        self.refused: list[tuple[Transaction, str]] = []
        self.published: dict[bytes, Transaction] = {}
        self.is_holding = False  # whether HTLCs for this node wait until `release`
        self.held: list[tuple[bytes, Any, Any]] = []
        self.on_start: list[Callable[[PlainNode], None]] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def id(self) -> Point:
        return self.signer.node_id

    # --- life and death

    def start(self) -> None:
        """Come to life from the database."""
        chain = self.chain
        self.store = DoomedStore(self.directory / "node.sqlite")
        self.wallet = Wallet(self.signer.wallet_seed, chain.network)
        self.wallet.load(self.store.db)
        self.switch = Switch(self.store, self.signer, self.wallet, self.house, self.toll, self._now)
        self.watcher = Watcher(self.switch, chain)
        self.payer = Payer(self.switch, Graph(), self._now)
        self.words_left, self.held = None, []
        self.is_alive, self.was_killed = True, False
        self.switch._inbox.appendleft(Request(resume))
        self.turn()
        if self.watcher._followed is None:
            tip = Tip(chain.regtest.height, chain.regtest.block_hash(chain.regtest.height) or b"")
            self.ask(lambda turn: self.watcher._begin(turn, tip))
        assert self.watcher._followed is not None, "it follows from now on"
        self.follower = chain.follow(self.watcher._followed.height + 1, self.watcher._followed.block_hash)
        self.switch.to_broadcast.extend((transaction,) for transaction in self.store.waiting_broadcasts())
        for callback in self.on_start:
            callback(self)
        self.turn()

    def _now(self) -> float:
        return self.seconds

    def die(self) -> None:
        """Lose everything but the database."""
        self.is_alive = False
        self.store.close()

    def doom(self, *, commits: int, is_after: bool) -> None:
        """Die over a commit to come, 0 being the next, before or after it is made."""
        number = self.store.commits + commits
        if is_after:
            self.store.dies_after = number
        else:
            self.store.dies_before = number

    # --- what the owner loop is asked

    def turn(self) -> None:
        """Turn until nothing waits."""
        try:
            while self.is_alive and self.switch._inbox:
                self.switch._turn()
            self._publish()
        except Killed:
            self.die()
            self.was_killed = True

    def _publish(self) -> None:
        while self.is_alive and self.switch.to_broadcast:
            transactions = self.switch.to_broadcast.popleft()
            try:
                self.chain.regtest.submit(*transactions)
                self.published.update({transaction.txid: transaction for transaction in transactions})
            except Rejected as rejected:
                self.refused.append((transactions[-1], rejected.reason))

    def ask(self, act: Callable[[Turn], T]) -> T:
        """Run `act` in a turn.

        Raises:
            Dead: the node has died; whatever `act` raises.
        """
        if not self.is_alive:
            raise Dead(self.name)
        request = Request(act)
        self.switch._inbox.append(request)
        self.turn()
        if not self.is_alive:
            raise Dead(self.name)
        if request.error is not None:
            raise request.error
        return cast(T, request.result)

    def follow(self, most: int = 1 << 30) -> None:
        """Read so many blocks, or up to the tip."""
        while most > 0 and self.is_alive and (event := self.follower.step()) is not None:
            rate = self.chain.feerate_now_per_kw
            self.switch.resolver.market = Market(rate, max(MIN_FEERATE_PER_KW, rate // 4))
            self.switch.closings.feerate_per_kw = rate
            self.watcher._tip_height = self.chain.regtest.height
            try:
                self.ask(lambda turn, event=event: self.watcher._take(turn, event))  # type: ignore[misc]
            except Dead:
                return
            most -= 1

    # --- channels

    def channel_with(self, other: "PlainNode") -> Channel:
        """The newest channel with that node."""
        return [c for c in self.switch.channels.values() if c.charter.peer_id == other.id][-1]

    def close(self, channel_id: bytes) -> None:
        """Wish to close together, as our user does by `Switch.close_channel`."""
        self.ask(lambda turn: self.switch.closings.begin(turn, channel_id, ClosingWish()))

    def force_close(self, channel_id: bytes) -> None:
        """Go to chain, as our user does by `Switch.force_close`."""

        def act(turn: Turn) -> None:
            channel = turn.channel(channel_id)
            assert channel is not None, "a channel that there is"
            turn.fail_channel(channel, USERS_WISH)

        self.ask(act)

    # --- payments

    def add_invoice(self, amount_msat: int, number: int) -> InvoiceRow:
        """An invoice whose preimage follows from its number."""
        preimage, secret = self.signer.preimage(number), sha256(b"secret", number.to_bytes(8, "big"))
        row = new_invoice(
            preimage,
            secret,
            Msat(amount_msat),
            "",
            NOW_SECONDS,
            min_final_cltv_expiry_delta=FINAL_DELTA_BLOCKS,
        )
        return self.ask(lambda turn: self.switch.invoices.add(turn, row))

    def pay(
        self,
        route: Route,
        payment_hash: bytes,
        payment_secret: bytes,
        total_msat: Msat | None = None,
        part_id: int = 0,
    ) -> None:
        """Send one HTLC, perhaps a part of more; what becomes of it is in `switch.payments`.

        Raises:
            Dead: the node has died over it.
            ChannelError: nothing was sent.
        """
        payments, amount_msat, payee = self.switch.payments, total_msat or route.amount_msat, route.hops[-1]
        if not payments.is_on_its_way(payment_hash):
            payments.begin(PaymentRow(payment_hash, payee.node_id, amount_msat, NOW_SECONDS))
        wanted = Wanted(payee.node_id, payment_hash, amount_msat, payment_secret=payment_secret)
        try:
            self.ask(self.payer.offering(wanted, Errand(), route, part_id))
        finally:
            payments.leave(payment_hash)

    def let_time_pass(self, seconds: float) -> None:
        """Have so much later, and do what a running node does then."""
        self.seconds += seconds
        if self.is_alive:
            self.ask(self.switch.gathering.expire)

    def release(self) -> None:
        """Take or fail all HTLCs that are held."""
        held, self.held = self.held, []

        def act(turn: Turn) -> None:
            for each in held:
                turn._receive(*each)

        is_holding, self.is_holding = self.is_holding, False
        try:
            self.ask(act)
        finally:
            self.is_holding = is_holding
