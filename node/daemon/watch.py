"""Following the chain for one node: what each block does to its channels and its wallet."""

import logging
from collections.abc import Callable

import msgspec
import trio

from htlc import steps
from htlc.channel import Channel, Phase
from htlc.errors import FailChannel
from htlc.market import Market
from node.chain.interface import (
    BlockConnected,
    BlockDisconnected,
    BlockEvent,
    Chain,
    ChainUnavailable,
    Rejected,
    Tip,
)
from node.daemon import rebroadcast
from node.daemon.backup import BIRTHDAY
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import OutPoint, Transaction
from wire.scid import parts, scid

log = logging.getLogger("rill.chain")

BURIED_BLOCKS = 6
RETRY_SECONDS = 1.0


class WrongFunding(FailChannel):
    """The funding transaction does not pay what the opener promised."""

    def __init__(self) -> None:
        super().__init__("the funding output is not the one that was agreed on")


class Followed(msgspec.Struct, frozen=True, gc=False):
    """Up to which block this node has read the chain."""

    height: int
    block_hash: bytes


class Watcher:
    """Reads blocks into turns of the switch."""

    def __init__(self, switch: Switch, chain: Chain) -> None:
        self._switch, self._chain = switch, chain
        self._grown = trio.Event()
        self.on_block: list[Callable[[BlockConnected], None]] = []
        self.on_undone: list[Callable[[BlockDisconnected], None]] = []
        self._tip_height = 0
        raw = switch.store.meta("followed")
        self._followed = msgspec.msgpack.decode(raw, type=Followed) if raw else None
        if self._followed is not None:
            # the first turn after a start decides about HTLCs, by the height that we knew
            switch.height = self._followed.height

    async def run(self) -> None:
        """Follow from where we stopped, or on a first start from the tip, or from what a backup says."""
        tip = await self._chain.tip()
        if self._followed is None and not self._is_reading_again(tip):
            await self._switch.ask(lambda turn: self._begin(turn, tip))
        self._tell()
        await self._look_around(self._switch.height)
        last_hash = self._followed.block_hash if self._followed is not None else None
        stream = self._chain.follow(self._switch.height + 1, last_hash)
        async for event in stream:
            await self._look_around(event.height)
            await self._switch.ask(lambda turn, event=event: self._take(turn, event))  # type: ignore[misc]
            if isinstance(event, BlockConnected):
                for callback in self.on_block:
                    callback(event)
            else:
                for undo in self.on_undone:
                    undo(event)
            self._tell()

    def _is_reading_again(self, tip: Tip) -> bool:
        """Whether this node has lived before, and begins with the first block that concerned it."""
        raw = self._switch.store.meta(BIRTHDAY)
        if raw is None or int.from_bytes(raw, "big") > tip.height:
            return False
        self._switch.height = max(1, int.from_bytes(raw, "big")) - 1
        return True

    @property
    def followed(self) -> Followed | None:
        """The last block that was read."""
        return self._followed

    async def _look_around(self, height: int) -> None:
        """Where the tip is, and from there, what confirmations cost."""
        if height > self._tip_height:
            self._tip_height = (await self._chain.tip()).height
        if height >= self._tip_height:
            soon = await self._chain.feerate_per_kw(2)
            later = await self._chain.feerate_per_kw(100)
            self._switch.resolver.market = Market(soon, later)

    async def wait_for_height(self, height: int) -> None:
        """Return once the node has read the chain to this height."""
        while self._switch.height < height:
            await self._grown.wait()

    def _tell(self) -> None:
        self._grown.set()
        self._grown = trio.Event()

    def _begin(self, turn: Turn, tip: Tip) -> None:
        """The first start: what comes from now on concerns us, however short we live this time."""
        self._switch.height, store = tip.height, self._switch.store
        turn.write(lambda: store.put_meta(BIRTHDAY, tip.height.to_bytes(8, "big")))
        self._stand_at(turn, Followed(tip.height, tip.block_hash))

    def _stand_at(self, turn: Turn, followed: Followed) -> None:
        self._followed, store = followed, self._switch.store
        turn.writes_once[b"followed"] = lambda: store.put_meta("followed", msgspec.msgpack.encode(followed))

    def _take(self, turn: Turn, event: BlockEvent) -> None:
        if isinstance(event, BlockConnected):
            self._connect(turn, event)
        else:
            self._disconnect(turn, event)
        # after a disconnection the next block overwrites this; a crash before it re-reads from the fork
        self._stand_at(turn, Followed(event.height, event.block_hash))
        store, wallet = self._switch.store, self._switch.wallet
        turn.writes_once[b"wallet"] = lambda: wallet.save(store.db)

    # --- blocks

    def _connect(self, turn: Turn, block: BlockConnected) -> None:
        switch = self._switch
        switch.height = block.height
        switch.wallet.apply_block(block.height, block.transactions)
        live = [c for c in turn.all_channels() if c.phase is not Phase.CLOSED]
        by_txid: dict[bytes, list[Channel]] = {}
        for channel in live:
            if channel.short_channel_id is None:
                by_txid.setdefault(channel.charter.funding_outpoint.txid, []).append(channel)
        for position, transaction in enumerate(block.transactions if by_txid else ()):
            for channel in by_txid.get(transaction.txid, ()):
                self._funding_mined(turn, channel, transaction, block.height, position)
        switch.gathering.keep_deadlines(turn, block.height)
        # processing.2; so many blocks later no reorganisation makes its expiry one to come
        turn.write(lambda: switch.store.forget_onions(block.height - BURIED_BLOCKS))
        switch.resolver.connect(turn, block, is_tip=block.height >= self._tip_height)
        rebroadcast.connect(turn, block, is_tip=block.height >= self._tip_height)
        for channel in live:
            self._deepen(turn, turn.channel(channel.id) or channel)

    def _disconnect(self, turn: Turn, block: BlockDisconnected) -> None:
        switch = self._switch
        switch.height = block.height - 1
        switch.wallet.undo_block(block.height)
        switch.resolver.disconnect(turn, block.height)
        rebroadcast.disconnect(turn, block.height)
        for channel in turn.all_channels():
            if channel.short_channel_id is not None and parts(channel.short_channel_id)[0] == block.height:
                turn.take(steps.mined(channel, None))

    def _funding_mined(
        self, turn: Turn, channel: Channel, funding: Transaction, height: int, position: int
    ) -> None:
        outpoint: OutPoint = channel.charter.funding_outpoint
        output = funding.outputs[outpoint.index] if outpoint.index < len(funding.outputs) else None
        # channel_ready.1: the exact amount, to the script of both keys
        is_right = output is not None and (output.value_sat, output.script) == (
            channel.charter.funding_sat,
            p2wsh(channel.charter.funding_script),
        )
        if is_right:
            turn.take(steps.mined(channel, scid(height, position, outpoint.index)))
        else:
            turn.fail_channel(channel, str(WrongFunding()))

    def _deepen(self, turn: Turn, channel: Channel) -> None:
        if channel.short_channel_id is None or channel.is_ready.local:
            return
        depth = self._switch.height - parts(channel.short_channel_id)[0] + 1
        # channel_ready.1
        if depth >= max(1, channel.charter.minimum_depth_blocks):
            secrets = self._switch.signer.channel_secrets(channel.charter.key_index)
            turn.take(steps.confirmed(channel, secrets))


async def broadcast_forever(switch: Switch, chain: Chain) -> None:
    """Give the chain what turns leave for it, however often it goes away meanwhile."""
    while True:
        while switch.to_broadcast:
            transactions = switch.to_broadcast[0]
            try:
                await chain.broadcast(*transactions)
            except Rejected as rejected:
                log.warning("the chain refused a transaction", extra={"why": str(rejected)})
            except ChainUnavailable as away:
                log.warning("a transaction waits for the chain to return", extra={"why": str(away)})
                switch.tell_broadcast()
                await trio.sleep(RETRY_SECONDS)
                continue
            switch.to_broadcast.popleft()
        switch.tell_broadcast()
        switch.broadcast_wake = trio.Event()
        await switch.broadcast_wake.wait()
