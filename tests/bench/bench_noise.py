"""What the transport costs: the handshake, and each message sealed and opened (BOLT 8).

The floor of a message is its two AEAD calls; of a handshake the shared secrets and points that
both sides together cannot do without.
"""

from collections.abc import Iterator
from functools import partial
from time import perf_counter

from tests.bench.harness import Report
from wire.crypto.aead import Aead
from wire.crypto.secp256k1 import ecdh, point_of
from wire.noise import Initiator, Responder, Transport

ALICE, BOB, OURS, THEIRS = (bytes([number]) * 32 for number in (1, 2, 3, 4))
KEY, OTHER_KEY, CHAIN = (bytes([number]) * 32 for number in (5, 6, 7))
BOB_POINT = point_of(BOB)
READ_BYTES = 65536
FRAME_BYTES = 34
SAMPLES = 30
# update_fulfill_htlc, channel_update, update_add_htlc, a block of paid content, the longest
LENGTHS = (74, 138, 1452, 16384, 65535)


def run(report: Report) -> None:
    """A handshake, then every common length."""
    report.time("floor: the curve's part of a handshake", curve_part)
    report.time("handshake, both sides", handshake, floor="floor: the curve's part of a handshake")
    for length in LENGTHS:
        message(report, length)


def curve_part() -> None:
    """Six shared secrets and four points."""
    for secret in (ALICE, BOB, OURS, THEIRS):
        point_of(secret)
    for _ in range(6):
        ecdh(ALICE, BOB_POINT)


def handshake() -> None:
    """Three acts between two nodes."""
    alice, bob = Initiator(ALICE, BOB_POINT, OURS), Responder(BOB, THEIRS)
    act_three, _ = alice.receive_act_two(bob.receive_act_one(alice.act_one()))
    bob.receive_act_three(act_three)


def message(report: Report, length: int) -> None:
    """Seal one, open one that came alone, and open those that fill a read."""
    plaintext, aead, floor = bytes(length), Aead(KEY), f"floor: two AEAD calls, {length} B"
    report.time(floor, partial(two_calls, aead, plaintext))
    report.time(f"seal, {length} B", partial(Transport(KEY, OTHER_KEY, CHAIN).seal, plaintext), floor=floor)
    report.samples(f"open alone, {length} B", list(opened(plaintext, 1)), floor=floor)
    per_read = READ_BYTES // (length + FRAME_BYTES)
    if per_read > 1:
        name = f"open, {per_read} of {length} B in a read"
        report.samples(name, list(opened(plaintext, per_read)), floor=floor)


def two_calls(aead: Aead, plaintext: bytes) -> None:
    """The length and the message."""
    aead.seal(0, b"\x00\x01")
    aead.seal(1, plaintext)


def opened(plaintext: bytes, per_read: int) -> Iterator[float]:
    """Seconds a message, of batches that hold at least a full read."""
    sender, receiver = Transport(KEY, OTHER_KEY, CHAIN), Transport(OTHER_KEY, KEY, CHAIN)
    reads = max(1, READ_BYTES // (per_read * (len(plaintext) + FRAME_BYTES)))
    for _ in range(SAMPLES):
        arriving = [b"".join([sender.seal(plaintext) for _ in range(per_read)]) for _ in range(reads)]
        start = perf_counter()
        for received in arriving:
            receiver.feed(received)
        yield (perf_counter() - start) / (reads * per_read)
