"""The durable side of one title: what was paid for is never paid for again.

Before a chunk is paid, its offer and its ciphertext are put into a file of their own, named after
the payment hash. After it is opened, the chunk goes to its place in the title's file, and twice a
second that file is flushed, the chunks that were added are entered in the book, and only then
their ciphertexts are removed. So whatever kills the process, each ciphertext that was paid is
still there, and the node's own payments tell which ones: they are opened at the next start.

A power cut may take ciphertexts that never reached the disk, so it may cost the window of chunks
that was being paid; nothing else waits for the disk.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layer

import trio

from node.stream.files import PartFile
from node.stream.merkle import Layout, WrongChunkLength, subtree_hash
from node.stream.offer import Offer, Terms, read_offer
from node.stream.purchase_book import Purchase, PurchaseBook, Waste
from wire.codec import DecodeError
from wire.crypto.hashes import sha256

log = logging.getLogger("rill.stream")

SYNC_SECONDS = 0.5
MOST_SPARES = 128
SPARE = "spare"
"""Files that hold nothing any more are used again: a new one for each chunk costs several times as much,
and more with every one that was removed, because a file system hands out what was just freed last."""
_size = Layer(">H")


class Record:
    """Where one title is kept; has the shape of a `Store`."""

    def __init__(self, book: PurchaseBook, root: bytes, part: Path, directory: Path) -> None:
        """`directory` is where ciphertexts wait. Raises OSError."""
        self.book, self.root = book, root
        self._part = PartFile(part)
        self._directory = directory / root.hex()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._spares: list[Path] = []
        self._fresh: list[Purchase] = []
        self._has_fresh = trio.Event()

    async def run(self) -> None:
        """Enter what was bought, until cancelled."""
        while True:
            await self._has_fresh.wait()
            await trio.sleep(SYNC_SECONDS)
            try:
                self.sync()
            except OSError as error:
                log.error("what was bought cannot be entered: %s", error.strerror)

    # --- the content

    @property
    def path(self) -> Path:
        """The file that the content is put together in."""
        return self._part.path

    def read(self, offset: int, size: int) -> bytes:
        """Bytes that were written before; raises OSError."""
        return self._part.read(offset, size)

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at an offset; raises OSError."""
        self._part.write(offset, content)

    def purchases(self, chunk_size: int) -> Iterator[Purchase]:
        """The chunks that are in the file; those that the file is too short for are forgotten."""
        whole = self._part.length // chunk_size
        has_rest = self._part.length % chunk_size
        self.book.forget(self.root, whole + bool(has_rest))
        return self.book.purchases(self.root)

    def is_intact(self, layout: Layout, index: int) -> bool:
        """Whether a chunk that was bought before is what it was; forgets it if not. Raises OSError."""
        bought = self.book.purchase(self.root, index)
        try:
            chunk = self.read(layout.offset(index), layout.chunk_bytes(index))
            if bought is not None and subtree_hash(layout, index, chunk) == bought.subtree:
                return True
        except WrongChunkLength:
            pass
        log.warning("chunk %d of %s was changed on the disk", index, self.root.hex())
        self.book.forget_chunk(self.root, index)
        return False

    def wasted(self) -> list[Waste]:
        """What was paid for nothing."""
        return self.book.wasted(self.root)

    def move(self, path: Path) -> None:
        """Be this file from now on; raises OSError."""
        self._part.move(path)

    # --- payments

    def seal(self, offer: Offer, ciphertext: bytes) -> None:
        """Keep what is about to be paid; raises OSError."""
        raw = offer.encode()
        spare = self._spares[-1] if self._spares else self._directory / f"{SPARE}-new"
        with spare.open("r+b" if self._spares else "wb") as file:
            file.write(_size.pack(len(raw)) + raw + ciphertext)
            file.truncate()
        spare.rename(self._sealed(offer.terms.payment_hash))
        del self._spares[-1:]

    def drop(self, payment_hash: bytes) -> None:
        """It was not paid, or it is no longer needed."""
        sealed = self._sealed(payment_hash)
        if len(self._spares) >= MOST_SPARES:
            sealed.unlink(missing_ok=True)
        elif sealed.exists():
            self._spares.append(sealed.rename(self._directory / f"{SPARE}-{payment_hash.hex()}"))

    def sealed(self) -> Iterator[tuple[Offer, bytes]]:
        """What was about to be paid, or was paid and not entered, when the process ended."""
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith(SPARE):
                if path not in self._spares:
                    path.unlink()
                continue
            try:
                offer, ciphertext = _unsealed(path.read_bytes())
            except DecodeError:
                path.unlink()  # written halfway, so not paid
            else:
                yield offer, ciphertext

    def is_entered(self, terms: Terms) -> bool:
        """Whether the payment of an offer is accounted for."""
        return self.book.is_entered(self.root, terms.index, terms.payment_hash)

    def enter(self, purchase: Purchase) -> None:
        """The chunk is written; it is entered soon."""
        self._fresh.append(purchase)
        self._has_fresh.set()

    def enter_waste(self, waste: Waste) -> None:
        """The payment brought no chunk."""
        self.book.enter_waste(self.root, waste)

    def sync(self) -> None:
        """Enter everything now; raises OSError."""
        fresh = self._fresh
        if fresh:
            self._part.sync()
            self.book.enter(self.root, fresh)
            for purchase in fresh:
                self.drop(purchase.payment_hash)
        self._fresh, self._has_fresh = [], trio.Event()

    def close(self) -> None:
        """Enter the rest, and close the file."""
        try:
            self.sync()
        except OSError as error:
            log.error("what was bought cannot be entered: %s", error.strerror)
        self._part.close()
        while self._spares:
            self._spares.pop().unlink(missing_ok=True)

    def _sealed(self, payment_hash: bytes) -> Path:
        return self._directory / payment_hash.hex()


def _unsealed(raw: bytes) -> tuple[Offer, bytes]:
    """An offer and its ciphertext; raises DecodeError."""
    if len(raw) < _size.size:
        raise DecodeError("a sealed chunk is cut short")
    end = _size.size + _size.unpack_from(raw)[0]
    offer, ciphertext = read_offer(raw[_size.size : end]), raw[end:]
    if sha256(ciphertext) != offer.terms.ciphertext_sha256:
        raise DecodeError("a sealed chunk is cut short")
    return offer, ciphertext
