"""The command about what was passed on for others."""

from typing import Any

from node.daemon.ledger import Passage, passage_of
from node.daemon.node import Node
from node.daemon.rpc_parameters import (
    CommandFailed,
    EndedForward,
    ForwardStatus,
    Index,
    Integer,
    ShortChannelId,
    paged,
)
from wire.scid import text_of

NOT_FOUND = 1401


class ForwardCommands:
    """HTLCs that were passed on."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def listforwards(
        self,
        status: ForwardStatus | None = None,
        in_channel: ShortChannelId | None = None,
        out_channel: ShortChannelId | None = None,
        index: Index | None = None,
        start: Integer = 0,
        limit: Integer | None = None,
    ) -> dict[str, Any]:
        """What is being passed on, and the last ten thousand that have ended."""
        every = [*self._node.switch.ledger.passages(), *self._under_way()]
        found = [
            each
            for each in every
            if status in (None, each.status)
            and in_channel in (None, each.in_channel)
            and out_channel in (None, each.out_channel)
        ]
        found.sort(key=lambda passage: passage.created_index)
        return {"forwards": [_view(each) for each in paged(found, index, start, limit)]}

    async def delforward(
        self, in_channel: ShortChannelId, in_htlc_id: Integer, status: EndedForward
    ) -> dict[str, Any]:
        """Forget one that has ended so."""
        ledger = self._node.switch.ledger
        wanted = (in_channel, in_htlc_id, status)
        every = ledger.passages()
        found = [each for each in every if (each.in_channel, each.in_htlc_id, each.status) == wanted]
        if not found:
            raise CommandFailed(NOT_FOUND, "Could not find that forward")
        await self._node.switch.ask(lambda turn: ledger.forget(turn, found))
        return {}

    def _under_way(self) -> list[Passage]:
        channels = self._node.switch.channels
        offered = [
            passage_of(channels.get, channel.id, htlc, "offered")
            for channel in channels.values()
            for htlc in channel.htlcs.local.values()
            if htlc.outcome is None
        ]
        return [passage for passage in offered if passage is not None]


def _view(passage: Passage) -> dict[str, Any]:
    view: dict[str, Any] = {
        "created_index": passage.created_index,
        "in_channel": text_of(passage.in_channel),
        "in_htlc_id": passage.in_htlc_id,
        "in_msat": passage.in_msat,
        "out_channel": text_of(passage.out_channel),
        "out_msat": passage.out_msat,
        "fee_msat": passage.in_msat - passage.out_msat,
        "status": passage.status,
        "style": "tlv",
        "received_time": passage.received_at,
    }
    if passage.updated_index:
        view["updated_index"] = passage.updated_index
    if passage.out_htlc_id >= 0:
        view["out_htlc_id"] = passage.out_htlc_id
    if passage.resolved_at and passage.updated_index:
        view["resolved_time"] = passage.resolved_at
    return view
