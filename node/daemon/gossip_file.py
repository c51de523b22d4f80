"""What we know of the network as a file, in the form that Core Lightning's tools read (gossip_store).

The file only grows: a version, then the signed messages as they came, each behind its length, its
checksum and its time. What is known at the start is written anew. Nothing of ours reads it.
"""

import struct
from pathlib import Path

import trio

from gossip.archive import Archive, crc32c, update_timestamp
from node.daemon.gossiper import Gossiper

VERSION = 0x0F
FILE_NAME = "gossip_store"
SETTLING_SECONDS = 0.25
_COMPLETE = 0x2000
_CHANNEL_AMOUNT, _DELETE_CHANNEL = 4101, 4103
_head = struct.Struct(">HHII").pack


class GossipFile:
    """Writes the file while the node runs. Start `run` in a nursery."""

    def __init__(self, directory: Path, gossiper: Gossiper) -> None:
        self._path, self._gossiper = directory / FILE_NAME, gossiper
        self._written: dict[tuple[str, int | bytes], bytes] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write whatever comes, until cancelled; started once the file is there."""
        self._path.write_bytes(bytes((VERSION,)))
        task_status.started()
        while True:
            self._append()
            await self._gossiper.wait_for_change()
            # what comes in one go is written in one go
            await trio.sleep(SETTLING_SECONDS)

    def _append(self) -> None:
        records = b"".join(self._new())
        if records:
            with self._path.open("ab") as file:
                file.write(records)

    def _new(self) -> list[bytes]:
        """The records of all that has changed."""
        archive, graph = self._gossiper.router.archive, self._gossiper.graph
        records: list[bytes] = []
        for channel_id, raw in archive.announcements.items():
            if self._is_new(("channel", channel_id), raw):
                records += _record(raw, 0), _record(_amount(graph.channels[channel_id].capacity_sat), 0)
            for direction in (0, 1):
                update = archive.public_update(channel_id, direction)
                if update is not None and self._is_new(("update", 2 * channel_id + direction), update):
                    records.append(_record(update, update_timestamp(update)))
        for node_id, raw in archive.nodes.items():
            if self._is_new(("node", node_id), raw):
                records.append(_record(raw, _node_timestamp(raw)))
        return records + self._gone(archive)

    def _is_new(self, name: tuple[str, int | bytes], raw: bytes) -> bool:
        before = self._written.get(name)
        self._written[name] = raw
        return before is not raw

    def _gone(self, archive: Archive) -> list[bytes]:
        known = [name for kind, name in self._written if kind == "channel" and isinstance(name, int)]
        gone = [channel_id for channel_id in known if channel_id not in archive.announcements]
        for channel_id in gone:
            del self._written["channel", channel_id]
        return [_record(struct.pack(">HQ", _DELETE_CHANNEL, channel_id), 0) for channel_id in gone]


def _amount(capacity_sat: int) -> bytes:
    return struct.pack(">HQ", _CHANNEL_AMOUNT, capacity_sat)


def _node_timestamp(raw: bytes) -> int:
    end = 68 + int.from_bytes(raw[66:68], "big")
    return int.from_bytes(raw[end : end + 4], "big")


def _record(raw: bytes, timestamp: int) -> bytes:
    return _head(_COMPLETE, len(raw), crc32c(raw, timestamp), timestamp) + raw
