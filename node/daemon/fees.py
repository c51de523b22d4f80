"""Keeping the feerate of our commitments near what the chain asks for (BOLT 2, update_fee)."""

import logging

import trio

from htlc import steps
from htlc.channel import Channel
from htlc.errors import FeeRefused, NotUsable
from htlc.ladder import LOCAL
from htlc.transactions import ChannelFormat
from node.chain.interface import BlockConnected, Chain
from node.daemon.switch import Switch
from node.daemon.turn import Turn

log = logging.getLogger("rill.fees")

SOON_BLOCKS = 6
MOST_WITH_ANCHORS_PER_KW = 2500
"""10 sat a virtual byte enter any mempool; the anchor pays for more when it is needed."""
TOO_LOW, TOO_HIGH = 1.2, 1.5


def wanted_per_kw(channel: Channel, estimate_per_kw: int) -> int:
    """The feerate that this channel's commitments should have, by what the chain asks for."""
    if channel.charter.format is ChannelFormat.ANCHORS:
        return min(estimate_per_kw, MOST_WITH_ANCHORS_PER_KW)
    return estimate_per_kw


def is_off(now_per_kw: int, wanted_per_kw: int) -> bool:
    """Whether a feerate is far enough from the wanted one to be worth a change."""
    return wanted_per_kw > TOO_LOW * now_per_kw or now_per_kw > TOO_HIGH * wanted_per_kw


class FeeKeeper:
    """Looks at the chain's feerates with every block, and proposes changes where we opened."""

    def __init__(self, switch: Switch, chain: Chain) -> None:
        self._switch, self._chain = switch, chain
        self._wake = trio.Event()

    def note_block(self, _: BlockConnected) -> None:
        """A block came: feerates may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Look, and wait for the next block."""
        while True:
            estimate_per_kw = await self._chain.feerate_per_kw(SOON_BLOCKS)
            self._switch.closings.feerate_per_kw = estimate_per_kw
            await self._switch.ask(lambda turn, rate=estimate_per_kw: self._propose(turn, rate))  # type: ignore[misc]
            await self._wake.wait()
            self._wake = trio.Event()

    def _propose(self, turn: Turn, estimate_per_kw: int) -> None:
        most_dust_msat = self._switch.house.most_dust_exposure_msat
        for channel in turn.all_channels():
            # update_fee.1: the opener alone changes the feerate
            is_ours = channel.charter.opener is LOCAL and channel.id in self._switch.live
            if not is_ours or channel.fee_changes:
                continue
            wanted = wanted_per_kw(channel, estimate_per_kw)
            if not is_off(channel.feerate_per_kw, wanted):
                continue
            try:
                turn.take(steps.change_fee(channel, wanted, most_dust_msat=most_dust_msat))
                turn.saved[channel.id] = None
            except (FeeRefused, NotUsable) as refused:
                log.info("a feerate stays", extra={"channel": channel.id.hex(), "why": str(refused)})
