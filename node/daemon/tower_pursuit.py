"""A watchtower's eye on the chain: hints looked up in each block, breaches pursued to their end.

The rules are `htlc.watchtower`'s; here they meet the database and the chain. A block and what
follows from it are one transaction, and what is to be published follows from what was written, so
a tower that is killed anywhere reads on where it stopped and publishes again.
"""

import logging
from collections.abc import Callable

import msgspec
import trio

from htlc.watchtower import Breach, Unreadable, connected, disconnected, found, hint_of, published, unsealed
from node.chain.interface import BlockConnected, BlockEvent, Chain, ChainUnavailable, Rejected
from node.daemon.tower_store import TowerStore
from node.daemon.watch import Followed
from wire.bitcoin.tx import Transaction, txid_hex

log = logging.getLogger("rill.watchtower")

SOON_BLOCKS = 2
RETRY_SECONDS = 1.0


class Pursuit:
    """Reads blocks, and punishes what they show."""

    def __init__(self, store: TowerStore, chain: Chain) -> None:
        """Take up what the database says.

        Raises:
            Damaged: it cannot be read.
        """
        self._store, self._chain = store, chain
        self.breaches = dict(store.breaches())
        self.height = 0
        self.on_breach: list[Callable[[Breach], None]] = []
        raw = store.meta("followed")
        self._followed = msgspec.msgpack.decode(raw, type=Followed) if raw else None
        self._grown = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow from where the tower stopped, or on its first start from the tip.

        Raises:
            UnknownBlock: this is not the chain that it has read so far.
        """
        if self._followed is None:
            tip = await self._chain.tip()
            self._followed = Followed(tip.height, tip.block_hash)
            with self._store.transaction():
                self._store.put_meta("followed", msgspec.msgpack.encode(self._followed))
        self.height = self._followed.height
        task_status.started()
        await self._publish()
        async for event in self._chain.follow(self.height + 1, self._followed.block_hash):
            self._read(event)
            await self._publish()
            self._grown.set()
            self._grown = trio.Event()

    async def wait_for_height(self, height: int) -> None:
        """Return once the chain is read to this height, and all is published that it asks for."""
        while self.height < height:
            await self._grown.wait()

    # --- blocks

    def _read(self, event: BlockEvent) -> None:
        before = dict(self.breaches)
        if isinstance(event, BlockConnected):
            self.height = event.height
            self._find(event)
            changed = {id: connected(b, event.height, event.transactions) for id, b in self.breaches.items()}
        else:
            self.height = event.height - 1
            changed = {id: disconnected(breach, event.height) for id, breach in self.breaches.items()}
        self.breaches = {id: breach for id, breach in changed.items() if not breach.is_over(self.height)}
        with self._store.transaction():
            followed = Followed(event.height, event.block_hash)
            self._store.put_meta("followed", msgspec.msgpack.encode(followed))
            self._write(before)
        for id, breach in self.breaches.items():
            if before.get(id) != breach:
                self._tell(breach)

    def _find(self, block: BlockConnected) -> None:
        for transaction in block.transactions:
            for id, blob in self._store.matching(hint_of(transaction.txid)):
                if id in self.breaches:
                    continue
                try:
                    self.breaches[id] = found(unsealed(transaction.txid, blob), transaction, block.height)
                except Unreadable as unreadable:
                    log.info("a hint leads nowhere", extra={"why": unreadable.why})

    def _write(self, before: dict[int, Breach]) -> None:
        for id, breach in self.breaches.items():
            if before.get(id) != breach:
                self._store.put_breach(id, breach)
        for id in before.keys() - self.breaches.keys():
            self._store.drop_breach(id)

    def _tell(self, breach: Breach) -> None:
        left = sum(target.spent_at is None for target in breach.targets)
        shown = {"txid": txid_hex(breach.transaction.txid), "taken_sat": breach.taken_sat, "left": left}
        log.warning("a revoked commitment is being punished", extra=shown)
        for callback in self.on_breach:
            callback(breach)

    # --- publishing

    async def _publish(self) -> None:
        """At the tip, give the chain all that can be spent now."""
        if not self.breaches or (await self._chain.tip()).height > self.height:
            return
        feerate_per_kw = await self._chain.feerate_per_kw(SOON_BLOCKS)
        for id, before in list(self.breaches.items()):
            breach, transactions = published(before, self.height, feerate_per_kw)
            if breach != before:
                self.breaches[id] = breach
                with self._store.transaction():
                    self._store.put_breach(id, breach)
            for transaction in transactions:
                await self._broadcast(transaction)

    async def _broadcast(self, transaction: Transaction) -> None:
        while True:
            try:
                return await self._chain.broadcast(transaction)
            except Rejected as rejected:
                return log.info("the chain refused a penalty", extra={"why": str(rejected)})
            except ChainUnavailable as away:
                log.warning("a penalty waits for the chain to return", extra={"why": str(away)})
                await trio.sleep(RETRY_SECONDS)
