"""What onions cost: building, peeling, failing, attributing (BOLT 4).

Each floor is what the protocol demands and nothing else: the curve operations, cipher passes
and hashes, called bare with arguments of the same size.
"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle

from onion import attribution, failures, payload, sphinx
from tests.bench.harness import Report
from wire.crypto import secp256k1
from wire.crypto.aead import chacha20_xor
from wire.crypto.hashes import hmac_sha256, sha256
from wire.units import Msat

NODE_SECRETS = [bytes([0x11 + index]) * 32 for index in range(27)]
NODES = [secp256k1.point_of(secret) for secret in NODE_SECRETS]
SESSION_KEY = bytes([0x41]) * 32
PAYMENT_HASH = bytes([0x42]) * 32
HOP = payload.HopPayload(Msat(1_000_000), 800_000, 1 << 60)
PAYLOAD = payload.encode_payload(HOP)
BODY = bytes(1300)
KEY = bytes(range(32))
FRESH = 2048
"""So many packets in turn that no point of one is still known when it comes again."""


def run(report: Report) -> None:
    """All of it."""
    build(report)
    peel(report)
    fail(report)


def build(report: Report) -> None:
    """Over short, usual and long routes; the first ECDH with a node also decompresses its key."""
    for hops in (1, 5, 20):
        route = [(node, PAYLOAD) for node in NODES[:hops]]
        floor = f"floor of building, {hops} hops"
        report.time(floor, partial(floor_of_build, hops))
        report.time(
            f"build, {hops} hops", partial(sphinx.build, SESSION_KEY, route, PAYMENT_HASH), floor=floor
        )


def peel(report: Report) -> None:
    """As a hop and as the last node, packets that were never seen before."""
    keys = [sha256(index.to_bytes(4, "big")) for index in range(FRESH)]
    points = cycle([secp256k1.point_of(key) for key in keys])
    report.time("floor of peeling", lambda: floor_of_peel(next(points)))
    for name, hops in (("peel", 2), ("peel the last layer", 1)):
        route = [(node, PAYLOAD) for node in NODES[:hops]]
        packets = cycle([sphinx.build(key, route, PAYMENT_HASH).packet for key in keys])
        report.time(name, partial(peel_one_of, packets), floor="floor of peeling")
    report.time("encode a payload", lambda: payload.encode_payload(HOP))
    report.time("decode a payload", lambda: payload.decode_payload(PAYLOAD, is_final=False))


def peel_one_of(packets: Iterator[bytes]) -> None:
    """The next one."""
    sphinx.peel(NODE_SECRETS[0], next(packets), PAYMENT_HASH)


def fail(report: Report) -> None:
    """From the last of 20 hops: made, wrapped once, attributed."""
    secrets = sphinx.shared_secrets_of(SESSION_KEY, NODES[:20])
    message = failures.encode_failure(failures.Failure(failures.FailureCode.temporary_channel_failure))
    packet = failures.fail_packet(secrets[-1], message)
    for secret in reversed(secrets[:-1]):
        packet = failures.wrap_failure(secret, packet)
    report.time("floor of failing", floor_of_fail)
    report.time("fail", lambda: failures.fail_packet(secrets[-1], message), floor="floor of failing")
    report.time("wrap", lambda: failures.wrap_failure(secrets[0], packet), floor="floor of failing")
    report.time(
        "attribute (27 layers)", lambda: failures.attribute(secrets, packet), floor="floor of failing"
    )
    no_times = bytes(attribution.ATTRIBUTION_SIZE)
    update = partial(attribution.update_attribution, secrets[0], packet, no_times, 1)
    report.time("update attribution data", update, floor="floor of failing")


def floor_of_build(hops: int) -> None:
    """Per hop: a public key, an ECDH, two keys, one pass of the cipher, an HMAC."""
    for node in NODES[:hops]:
        sha256(secp256k1.point_of(KEY), secp256k1.ecdh(KEY, node))
        secp256k1.multiply_secrets(KEY, KEY)
        hmac_sha256(hmac_sha256(KEY, KEY), hmac_sha256(KEY, KEY) + BODY)
        chacha20_xor(KEY, BODY)


def floor_of_peel(ephemeral: secp256k1.Point) -> None:
    """An ECDH, a point times the blinding factor, two keys, one pass over 2600 bytes, an HMAC."""
    secp256k1.ecdh(KEY, ephemeral)
    secp256k1.multiply_point(ephemeral, KEY)
    hmac_sha256(hmac_sha256(KEY, KEY), hmac_sha256(KEY, KEY) + BODY)
    chacha20_xor(KEY, BODY + BODY)


def floor_of_fail() -> None:
    """Two keys, an HMAC and one pass of the cipher over a packet."""
    hmac_sha256(hmac_sha256(KEY, KEY), BODY[:260])
    chacha20_xor(hmac_sha256(KEY, KEY), BODY[:292])
