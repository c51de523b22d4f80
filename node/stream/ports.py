"""What paid content needs of the node that it runs in, and of the files that it moves.

Provider and viewer are written against these protocols, so two of them can be joined in a test
without channels, and nothing here knows how a payment travels. What can go wrong is the node's
own to say: PeerGone, PaymentFailed and AlreadyPaid.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from gossip.graph import Graph
from node.daemon.payments import Status
from wire.crypto.secp256k1 import Point, Signature
from wire.units import Msat

CustomHandler: TypeAlias = Callable[[Point, bytes], Awaitable[None]]
"""Gets the peer and the payload, one message of a peer after another; it must not linger."""

SettledCallback: TypeAlias = Callable[[bytes, Msat], None]
"""Gets the payment hash and the amount received."""


class Invoice(Protocol):
    """What a payer must know; durable before anyone sees it."""

    @property
    def payment_hash(self) -> bytes: ...
    @property
    def payment_secret(self) -> bytes: ...
    @property
    def amount_msat(self) -> Msat | None: ...


class Payment(Protocol):
    """A payment that succeeded; `route` names the nodes on the way, the payee last."""

    @property
    def preimage(self) -> bytes: ...
    @property
    def amount_msat(self) -> Msat: ...
    @property
    def fee_msat(self) -> Msat: ...
    @property
    def route(self) -> tuple[Point, ...]: ...
    @property
    def short_channel_ids(self) -> tuple[int, ...]: ...


class PaymentState(Protocol):
    """What has come of a payment of ours; durable."""

    @property
    def status(self) -> Status: ...
    @property
    def payment_preimage(self) -> bytes | None: ...
    @property
    def amount_msat(self) -> Msat: ...
    @property
    def fee_msat(self) -> Msat: ...


class Node(Protocol):
    """The part of a Lightning node that sells or buys."""

    @property
    def node_id(self) -> Point: ...
    @property
    def spendable_msat(self) -> Msat: ...
    @property
    def graph(self) -> Graph: ...

    def sign_digest(self, digest: bytes) -> Signature:
        """A signature of the node key over a 32-byte digest."""
        ...

    async def connect(self, node_id: Point, host: str, port: int) -> None:
        """Be connected; nothing happens when we are."""
        ...

    async def send_custom(self, peer_id: Point, type: int, payload: bytes) -> None:
        """Send a message of the custom range; waits while much is unsent. Raises PeerGone."""
        ...

    def on_custom(self, type: int, handler: CustomHandler) -> None: ...

    def on_settled(self, callback: SettledCallback) -> None: ...

    async def add_invoice(
        self, amount_msat: Msat, description: str, *, preimage: bytes | None, expiry_seconds: int
    ) -> Invoice: ...

    async def pay(
        self,
        payee: Point,
        payment_hash: bytes,
        payment_secret: bytes,
        amount_msat: Msat,
        *,
        max_fee_msat: Msat,
    ) -> Payment:
        """Raises PaymentFailed if nothing was paid, AlreadyPaid if the hash was used before."""
        ...

    def payment(self, payment_hash: bytes) -> PaymentState | None:
        """What has come of a payment of ours, None if there was none."""
        ...


class Source(Protocol):
    """A content that can be read anywhere."""

    @property
    def length(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes, or fewer where the content ends; raises OSError."""
        ...


class Store(Protocol):
    """Where what was bought of a content is kept, and read again."""

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes, which were written before; raises OSError."""
        ...

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at an offset; raises OSError."""
        ...


class Sink(Protocol):
    """Where a content is put together, in any order."""

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at an offset; raises OSError."""
        ...
