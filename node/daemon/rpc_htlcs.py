"""The command about HTLCs, one by one."""

from collections.abc import Iterator
from typing import Any

import msgspec

from htlc.channel import Channel
from htlc.ladder import Htlc
from node.daemon.node import Node
from node.daemon.rpc_channels import channel_called
from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed, Index, Integer, Text, paged
from node.daemon.rpc_views import RUNGS, htlc_view, is_over
from wire.scid import text_of

ID_BITS = 40
"""Of a number that is made of a channel's and of an HTLC's in it; no channel sees so many."""


class Listed(msgspec.Struct, frozen=True):
    """An HTLC in the order of channels, and of their HTLCs in either direction."""

    created_index: int
    view: dict[str, Any]
    updated_index: int = 0


class HtlcCommands:
    """HTLCs."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def listhtlcs(
        self,
        id: Text | None = None,
        index: Index | None = None,
        start: Integer = 0,
        limit: Integer | None = None,
    ) -> dict[str, Any]:
        """The HTLCs of channels that are not over; of those that have ended, the ones that had an output."""
        if index == "updated":
            why = "index: should be 'created', changes of HTLCs are not counted: invalid token 'updated'"
            raise CommandFailed(INVALID_PARAMETERS, why)
        node = self._node
        open_channels = [channel for channel in node.channels() if not is_over(node, channel)]
        channels = open_channels if id is None else [channel_called(node, id)]
        rows = sorted(
            (row for channel in channels for row in self._rows(channel)), key=lambda row: row.created_index
        )
        return {"htlcs": [row.view for row in paged(rows, index, start, limit)]}

    def _rows(self, channel: Channel) -> Iterator[Listed]:
        place = channel.short_channel_id or channel.aliases.local or 0
        for htlc, ended in self._htlcs(channel):
            number = channel.charter.key_index << ID_BITS | htlc.id << 1 | htlc.proposer
            shown = htlc_view(htlc) | ({"state": ended} if ended else {})
            shown |= {"created_index": number + 1, "short_channel_id": text_of(place)}
            shown.pop("local_trimmed", None)
            yield Listed(number + 1, shown)

    def _htlcs(self, channel: Channel) -> Iterator[tuple[Htlc, str]]:
        """Each, and in which state it has ended."""
        present = {(htlc.proposer, htlc.id) for htlc in channel.all_htlcs()}
        for htlc in self._node.store.every_past_htlc(channel.id):
            if (htlc.proposer, htlc.id) not in present:
                remover = htlc.proposer.other
                yield htlc, RUNGS[remover][-1].format("REMOVE")
        for htlc in channel.all_htlcs():
            yield htlc, ""
