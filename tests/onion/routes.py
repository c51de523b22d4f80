"""Nodes, routes and the protocol's figures for the tests of this room."""

import json
from pathlib import Path
from typing import Any

from onion.sphinx import Onion, build
from wire.crypto.secp256k1 import Point, Secret, point_of

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "bolt4.json").read_text())

PAYMENT_HASH = bytes([0x42]) * 32
SESSION_KEY = bytes([0x41]) * 32

NODE_SECRETS: list[Secret] = [bytes([0x11 + index]) * 32 for index in range(40)]
NODES: list[Point] = [point_of(secret) for secret in NODE_SECRETS]

SMALLEST_PAYLOAD = bytes.fromhex("020004000608" + "00" * 8)
"""Of a hop outside a blinded path; 27 of them fit a packet."""


def b(hexadecimal: str) -> bytes:
    """Bytes of a figure."""
    return bytes.fromhex(hexadecimal)


def unframed(framed: str) -> bytes:
    """A payload of the figures without the length in front."""
    raw = b(framed)
    return raw[1:] if raw[0] < 0xFD else raw[3:]


def an_onion(payloads: list[bytes], session_key: Secret = SESSION_KEY, size: int = 1300) -> Onion:
    """A packet over the first nodes, one per payload."""
    return build(session_key, list(zip(NODES, payloads, strict=False)), PAYMENT_HASH, size)
