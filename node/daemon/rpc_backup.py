"""Commands about backups of channels, by Core Lightning's names."""

from typing import Any

from htlc.backup import BadBackup, Entry, decode_entry, encode_entry
from node.daemon.node import Node
from node.daemon.restoring import UnusableBackup, read_backup
from node.daemon.rpc_parameters import INVALID_PARAMETERS, Array, CommandFailed

UNSPECIFIED = -1


class BackupCommands:
    """What the backup holds, and channels taken in from it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def staticbackup(self) -> dict[str, Any]:
        """What must be kept of each channel to have its money back; nothing in it is secret."""
        return {"scb": [encode_entry(entry).hex() for entry in self._node.backup.latest.entries]}

    async def getemergencyrecoverdata(self) -> dict[str, Any]:
        """The encrypted backup file, in hex; only the node's seed opens it."""
        backup = self._node.backup
        return {
            "filedata": backup.sealed().hex(),
            "can_create_penalty": False,
            "backed_up_channel_ids": [entry.channel_id.hex() for entry in backup.latest.entries],
        }

    async def recoverchannel(self, scb: Array) -> dict[str, Any]:
        """Ask the peers of channels that were lost to close them: an array of what `staticbackup` gave."""
        return await self._learn([_entry(text) for text in scb])

    async def emergencyrecover(self) -> dict[str, Any]:
        """The same with all channels of the backup file that this node does not know."""
        node = self._node
        if not node.backup.path.exists():
            raise CommandFailed(UNSPECIFIED, f"there is no {node.backup.path}")
        try:
            backup = read_backup(node.backup.path, node.signer.backup_key, node.switch.house.chain_hash)
        except UnusableBackup as bad:
            raise CommandFailed(UNSPECIFIED, str(bad)) from None
        return await self._learn(backup.entries)

    async def _learn(self, entries: list[Entry] | tuple[Entry, ...]) -> dict[str, Any]:
        node = self._node
        new = await node.switch.ask(lambda turn: node.restorer.learn_entries(turn, entries))
        return {"stubs": [channel_id.hex() for channel_id in new]}


def _entry(text: object) -> Entry:
    try:
        return decode_entry(bytes.fromhex(str(text)))
    except (BadBackup, ValueError):
        why = f"scb: should be what staticbackup gives: invalid token '{str(text)[:40]}'"
        raise CommandFailed(INVALID_PARAMETERS, why) from None
