"""Sales on credit: offers with their ciphertexts, to whoever may still owe for more.

A sale is opened for a buyer, whose name is a node's id or anything of that form, and closed when it is
paid or when its offer has ended. What a buyer has received and not paid is bounded by a credit
window, and so is what all of them owe together. An invoice is durable before its offer leaves: a
viewer that pays after a crash of this node still gets the preimage.

Asking again for a chunk that is unpaid brings the same sale again, so a viewer that lost its
connection loses nothing, and only a few times.
"""

import logging
import os
import re
import time
from collections.abc import Callable
from itertools import takewhile

import msgspec

from node.stream import messages
from node.stream.content import Content, ContentChanged, NotHereYet
from node.stream.messages import Reason
from node.stream.offer import Offer, Terms, seal_chunk
from node.stream.ports import Node
from node.stream.sales_book import Sale
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")

FREE = Msat(0)
_SALE = re.compile("chunk ([0-9]{1,10}) of ([0-9a-f]{64}) for (0[23][0-9a-f]{64})")


class Policy(msgspec.Struct, frozen=True, gc=False):
    """How far a provider trusts a buyer, and how much work it takes on."""

    credit_bytes: int = 32 << 20
    """How much ciphertext one buyer may have unpaid."""
    credit_of_all_bytes: int = 1 << 30
    """How much all buyers together may; whoever asks for more is refused until some of it is paid."""
    offer_seconds: int = 900
    margin_seconds: int = 60
    """An offer that ends sooner is not sent again; the next request gets a new one."""
    resends: int = 3
    requests_per_buyer: int = messages.MAX_OPEN_REQUESTS
    workers_per_buyer: int = 32


class Refused(Exception):
    """There is no sale; says why."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason.name.lower().replace("_", " "))


class CreditUsedUp(Exception):
    """The buyer owes as much as it may: it must pay something first."""


class Sold(msgspec.Struct, frozen=True, gc=False):
    """What a buyer gets."""

    offer: Offer
    ciphertext: bytes


class _Sale(msgspec.Struct):
    """An offer that a buyer has, with its ciphertext, and has not paid."""

    key: tuple[bytes, int]
    buyer: Point
    ciphertext_bytes: int
    preimage: bytes
    expiry: float
    offer: Offer | None = None
    resends: int = 0


class _Debtor(msgspec.Struct):
    """What a buyer owes."""

    unpaid: dict[tuple[bytes, int], _Sale] = msgspec.field(default_factory=dict)
    unpaid_bytes: int = 0


class Vendor:
    """Opens sales, and closes them when they are paid."""

    def __init__(
        self,
        node: Node,
        policy: Policy,
        *,
        on_sale: Callable[[Sale], None] | None = None,
        on_room: Callable[[Point], None] | None = None,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`on_sale` hears of every chunk that was paid, `on_room` of every buyer that owes less."""
        self._node, self._policy = node, policy
        self._on_sale, self._on_room = on_sale, on_room
        self._clock, self._entropy = clock, entropy
        self.contents: dict[bytes, Content] = {}
        self.sales: dict[bytes, _Sale] = {}
        self._debtors: dict[Point, _Debtor] = {}
        self._unpaid_bytes = 0
        self.sold_chunks, self.earned_msat = 0, Msat(0)
        node.on_settled(self._settled)

    async def sell(self, buyer: Point, root: bytes, index: int) -> Sold:
        """The sale of a chunk to a buyer, a new one or the one that it has not paid yet.

        Whether there is one is decided before anything is awaited.

        Raises:
            CreditUsedUp: not before the buyer has paid something.
            Refused: not at all.
        """
        content = self.contents.get(root)
        if content is None:
            raise Refused(Reason.UNKNOWN_CONTENT)
        if index >= content.tree.layout.chunk_count:
            raise Refused(Reason.NO_SUCH_CHUNK)
        try:
            if index < content.manifest.free_chunks:
                return self._give(content, index)
            sale = self._unpaid_sale(buyer, root, index)
            if sale is not None:
                return self._sell_again(content, sale)
            sale = self._open_sale(buyer, (root, index), content.tree.layout.chunk_bytes(index))
            return await self._sell(content, sale)
        except (ContentChanged, OSError) as reason:
            log.warning("chunk %d of %s cannot be sold: %r", index, root.hex(), reason)
            raise Refused(Reason.UNAVAILABLE) from None
        except NotHereYet:
            raise Refused(Reason.NOT_HERE_YET) from None

    def owes(self, buyer: Point) -> bool:
        """Whether a buyer has a sale that is open."""
        return buyer in self._debtors

    def _unpaid_sale(self, buyer: Point, root: bytes, index: int) -> _Sale | None:
        debtor = self._debtors.get(buyer)
        if debtor is None:
            return None
        self._forget_expired(debtor)
        return debtor.unpaid.get((root, index))

    def _give(self, content: Content, index: int) -> Sold:
        """A chunk for nothing: the offer itself tells the preimage, in the place of the secret."""
        preimage, chunk = self._entropy(32), content.chunk(index)
        ciphertext = seal_chunk(preimage, content.tree.root, index, chunk)
        expiry = int(self._clock() + self._policy.offer_seconds)
        terms = terms_of(content, index, FREE, (sha256(preimage), preimage), expiry, ciphertext)
        return self._signed(terms, ciphertext)

    async def _sell(self, content: Content, sale: _Sale) -> Sold:
        """A new sale, whose offer is signed and whose invoice is durable."""
        root, index = sale.key
        try:
            ciphertext = seal_chunk(sale.preimage, root, index, content.chunk(index))
            price_msat = content.manifest.price_msat
            invoice = await self._node.add_invoice(
                price_msat,
                sale_text(root, index, sale.buyer),
                preimage=sale.preimage,
                expiry_seconds=self._policy.offer_seconds,
            )
            tie = (invoice.payment_hash, invoice.payment_secret)
            terms = terms_of(content, index, price_msat, tie, int(sale.expiry), ciphertext)
            sold = self._signed(terms, ciphertext)
            sale.offer = sold.offer
        finally:
            if sale.offer is None:
                self._close_sale(sale)
        return sold

    def _sell_again(self, content: Content, sale: _Sale) -> Sold:
        """A sale once more, for a buyer that lost it on the way."""
        sale.resends += 1
        if sale.resends > self._policy.resends or sale.offer is None:
            raise Refused(Reason.UNPAID)
        return Sold(sale.offer, seal_chunk(sale.preimage, *sale.key, content.chunk(sale.key[1])))

    def _signed(self, terms: Terms, ciphertext: bytes) -> Sold:
        return Sold(Offer(terms, self._node.sign_digest(terms.digest())), ciphertext)

    def _open_sale(self, buyer: Point, key: tuple[bytes, int], size: int) -> _Sale:
        """Raises CreditUsedUp; Refused, if all buyers together owe too much."""
        debtor = self._debtors.get(buyer)
        if debtor is not None and debtor.unpaid_bytes + size > self._policy.credit_bytes:
            raise CreditUsedUp
        if self._unpaid_bytes + size > self._policy.credit_of_all_bytes:
            # whoever took and never came back would hold it for ever
            self._forget_oldest()
        if self._unpaid_bytes + size > self._policy.credit_of_all_bytes:
            raise Refused(Reason.UNPAID)
        preimage, expiry = self._entropy(32), self._clock() + self._policy.offer_seconds
        sale = _Sale(key, buyer, size, preimage, expiry)
        self.sales[sha256(preimage)] = sale
        debtor = self._debtors.setdefault(buyer, _Debtor())
        debtor.unpaid[key] = sale
        debtor.unpaid_bytes += size
        self._unpaid_bytes += size
        return sale

    def _close_sale(self, sale: _Sale) -> None:
        """The buyer owes nothing for this sale any more."""
        del self.sales[sha256(sale.preimage)]
        debtor = self._debtors[sale.buyer]
        del debtor.unpaid[sale.key]
        debtor.unpaid_bytes -= sale.ciphertext_bytes
        self._unpaid_bytes -= sale.ciphertext_bytes
        if not debtor.unpaid:
            del self._debtors[sale.buyer]
        if self._on_room is not None:
            self._on_room(sale.buyer)

    def _forget_expired(self, debtor: _Debtor) -> None:
        """An offer that can no longer be paid frees its credit: the loss that a window bounds."""
        soon = self._clock() + self._policy.margin_seconds
        for sale in [sale for sale in debtor.unpaid.values() if sale.offer and sale.expiry <= soon]:
            self._close_sale(sale)

    def _forget_oldest(self) -> None:
        """The same for all buyers; sales end in the order in which they were opened."""
        soon = self._clock() + self._policy.margin_seconds
        for sale in list(takewhile(lambda sale: sale.offer and sale.expiry <= soon, self.sales.values())):
            self._close_sale(sale)

    def _settled(self, payment_hash: bytes, amount_msat: Msat) -> None:
        sale = self.sales.get(payment_hash)
        if sale is None:
            return
        self.sold_chunks, self.earned_msat = self.sold_chunks + 1, Msat(self.earned_msat + amount_msat)
        if self._on_sale is not None:
            root, index = sale.key
            self._on_sale(Sale(payment_hash, root, index, sale.buyer, amount_msat, int(self._clock())))
        self._close_sale(sale)


def terms_of(
    content: Content, index: int, price_msat: Msat, tie: tuple[bytes, bytes], expiry: int, ciphertext: bytes
) -> Terms:
    """The terms of a sale; `tie` is its payment's hash and secret."""
    payment_hash, payment_secret = tie
    return Terms(
        provider=content.manifest.provider,
        root=content.tree.root,
        layout=content.tree.layout,
        index=index,
        price_msat=price_msat,
        payment_hash=payment_hash,
        payment_secret=payment_secret,
        expiry=expiry,
        subtree_hash=content.tree.subtree_hash(index),
        ciphertext_sha256=sha256(ciphertext),
        proof=content.tree.proof(index),
    )


def sale_text(root: bytes, index: int, buyer: Point) -> str:
    """What the invoice of a sale says: enough to book it by, after a crash."""
    return f"chunk {index} of {root.hex()} for {buyer.hex()}"


def read_sale_text(text: str) -> tuple[bytes, int, Point] | None:
    """The root, the chunk and the buyer that an invoice names, if it is one of a sale."""
    found = _SALE.fullmatch(text)
    return (bytes.fromhex(found[2]), int(found[1]), bytes.fromhex(found[3])) if found else None
