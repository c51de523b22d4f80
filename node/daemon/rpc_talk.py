"""Commands that say something: to peers, of blocks, of how the node was started, in the node's name."""

from typing import Any

import trio

from node.daemon.node import Node
from node.daemon.peer import PeerGone
from node.daemon.rpc import INVALID_REQUEST, listen
from node.daemon.rpc_general import Identity
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    Array,
    Boolean,
    Bytes,
    CommandFailed,
    Integer,
    NodeId,
    Text,
)
from wire.codec import MAX_MESSAGE_BYTES
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256d
from wire.crypto.secp256k1 import InvalidSignature, Point
from wire.messages.catalogue import MESSAGES

UNSPECIFIED = -1
UNKNOWN_KEY = 1301
TIMED_OUT = 2000
TYPE_BYTES = 2
MOST_MESSAGE_BYTES = 65_535
MOST_PING_BYTES = 65_529  # with its type and two lengths it is as long as a message may be
PLUGIN_COMMANDS = ("start", "stop", "startdir", "rescan", "list")
_PREFIX = b"Lightning Signed Message:"
_LETTERS = "ybndrfg8ejkmcpqxot1uwisza345h769"
_FIRST_COMPRESSED = 31


class TalkCommands:
    """Pings, blocks, signatures, settings."""

    def __init__(self, node: Node, identity: Identity) -> None:
        self._node, self._identity = node, identity

    async def ping(self, id: NodeId, len: Integer = 128, pongbytes: Integer = 128) -> dict[str, Any]:
        """Send a peer a ping, and wait for its answer."""
        if len > MOST_PING_BYTES or pongbytes > 0xFFFF:
            raise CommandFailed(INVALID_PARAMETERS, f"len: should be at most {MOST_PING_BYTES}")
        peer = self._node.switch.peers.get(id)
        if peer is None:
            raise CommandFailed(UNSPECIFIED, "Peer not connected")
        try:
            return {"totlen": await peer.ping(len, pongbytes)}
        except PeerGone as gone:
            raise CommandFailed(UNSPECIFIED, str(gone)) from None

    async def sendcustommsg(self, node_id: NodeId, msg: Bytes) -> dict[str, Any]:
        """Send a peer a message that the node itself knows nothing of."""
        number = int.from_bytes(msg[:2], "big")
        if len(msg) < TYPE_BYTES or number in MESSAGES or len(msg) > MAX_MESSAGE_BYTES:
            why = f"Cannot send messages of type {number}: the node sends these itself"
            raise CommandFailed(INVALID_REQUEST, why)
        peer = self._node.switch.peers.get(node_id)
        if peer is None:
            raise CommandFailed(INVALID_REQUEST, f"No such peer: {node_id.hex()}")
        peer.send_raw(msg)
        return {"status": "Message sent to the peer for delivery"}

    async def waitblockheight(self, blockheight: Integer, timeout: Integer = 60) -> dict[str, Any]:
        """Wait until the node has read the chain to a height."""
        with trio.move_on_after(timeout):
            await self._node.watcher.wait_for_height(blockheight)
            return {"blockheight": self._node.switch.height}
        raise CommandFailed(TIMED_OUT, "Timed out.")

    async def signmessage(self, message: Text) -> dict[str, Any]:
        """Sign a text with the node's key."""
        signature = secp256k1.sign_recoverable(self._node.signer.node_secret, _digest(message))
        recovery_id, compact = signature[64], signature[:64]
        return {
            "signature": compact.hex(),
            "recid": f"{recovery_id:02x}",
            "zbase": zbase32(bytes((_FIRST_COMPRESSED + recovery_id,)) + compact),
        }

    async def makesecret(self, hex: Bytes | None = None, string: Text | None = None) -> dict[str, Any]:
        """A secret that follows from the node's seed and from this; nobody else can make it."""
        if (hex is None) is (string is None):
            raise CommandFailed(INVALID_PARAMETERS, "Must have either hex or string, and not both")
        purpose = string.encode() if string is not None else hex or b""
        return {"secret": self._node.signer.made_secret(purpose).hex()}

    async def checkmessage(self, message: Text, zbase: Text, pubkey: NodeId | None = None) -> dict[str, Any]:
        """Which node signed a text, or whether this one did."""
        try:
            raw = from_zbase32(zbase)
            signature = raw[1:] + bytes((raw[0] - _FIRST_COMPRESSED,))
            signer = secp256k1.recover(_digest(message), signature)
        except (InvalidSignature, ValueError, IndexError):
            why = f"zbase: should be a zbase32 signature: invalid token '{zbase}'"
            raise CommandFailed(INVALID_PARAMETERS, why) from None
        if pubkey is not None:
            return {"verified": signer == pubkey, "pubkey": signer.hex()}
        if signer != self._node.node_id and Point(signer) not in self._node.graph.nodes:
            raise CommandFailed(UNKNOWN_KEY, "pubkey not found in the graph", {"claimed_key": signer.hex()})
        return {"verified": True, "pubkey": signer.hex()}

    async def listconfigs(self, config: Text | None = None) -> dict[str, Any]:
        """How the node was started: every option that was given, and where."""
        configs = self._identity.configs
        if config is None:
            return {"configs": configs}
        if config not in configs:
            raise CommandFailed(INVALID_PARAMETERS, f"Unknown config option '{config}'")
        return {"configs": {config: configs[config]}}

    async def notifications(self, enable: Boolean) -> dict[str, Any]:
        """Whether this connection hears how its commands get on."""
        listen(is_listening=enable)
        return {}

    async def plugin(
        self,
        subcommand: Text,
        plugin: Text | None = None,
        directory: Text | None = None,  # noqa: ARG002
        options: Array | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """The plugins: there are none."""
        if subcommand not in PLUGIN_COMMANDS:
            why = f"subcommand: should be one of {', '.join(PLUGIN_COMMANDS)}: invalid token '{subcommand}'"
            raise CommandFailed(INVALID_PARAMETERS, why)
        if subcommand in ("start", "stop") and plugin is None:
            raise CommandFailed(INVALID_PARAMETERS, "missing required parameter: plugin")
        if subcommand not in ("list", "rescan"):
            raise CommandFailed(UNSPECIFIED, f"this node has no plugins, so none to {subcommand}")
        return {"command": subcommand, "plugins": []}


def _digest(message: str) -> bytes:
    if len(message.encode()) > MOST_MESSAGE_BYTES:
        raise CommandFailed(INVALID_PARAMETERS, "message: should be less than 64k")
    return sha256d(_PREFIX, message.encode())


def zbase32(raw: bytes) -> str:
    """Bytes as 5 bits in a letter, in letters that people take for no other."""
    bits = "".join(f"{byte:08b}" for byte in raw)
    bits += "0" * (-len(bits) % 5)
    return "".join(_LETTERS[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def from_zbase32(text: str) -> bytes:
    """The bytes again; what is left over is dropped.

    Raises:
        ValueError: a letter is none of them.
    """
    bits = "".join(f"{_LETTERS.index(letter):05b}" for letter in text)
    return bytes([int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8)])
