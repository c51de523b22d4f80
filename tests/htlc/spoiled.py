"""Signatures that must not be taken, and the marks that try them all."""

import pytest

from tests.htlc.parties import ANCHORS, STATIC

GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def high_s(signature: bytes) -> bytes:
    """The other signature that the curve allows, and that nodes do not relay."""
    return signature[:32] + (GROUP_ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def flipped(signature: bytes) -> bytes:
    return signature[:40] + bytes([signature[40] ^ 1]) + signature[41:]


def zeros(signature: bytes) -> bytes:
    return bytes(len(signature))


def overflowing(signature: bytes) -> bytes:
    return b"\xff" * len(signature)


each_spoiling = pytest.mark.parametrize("spoil", [high_s, flipped, zeros, overflowing])
both_types = pytest.mark.parametrize("channel_type", [STATIC, ANCHORS], ids=["static_remotekey", "anchors"])
