"""How long each hop held the payment, so that nobody can hide behind a garbled failure (BOLT 4).

The `attribution_data` of `update_fail_htlc` and `update_fulfill_htlc` is 20 hold times, then a
triangle of truncated HMACs: row x belongs to the node x hops away from whoever holds it now and
has 20 - x entries, one for each place that node could have. Column c of a node's own row assumes
that 19 - c hops are behind it, and covers the packet, as many hold times, and column c of the
rows below. A node on the way pushes every row down, drops its first entry (one more hop is in
front now), and writes its own; the origin undoes that.

Only the origin knows which column of a row is right, so every node fills all of its own, even
if what they cover is zero or not its own.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import itemgetter

from onion.failures import wrap_failure
from wire.crypto.aead import chacha20_xor
from wire.crypto.hashes import hmac_sha256, hmacs_sha256, is_equal_constant_time

MAX_HOPS = 20
HOLD_TIME_SIZE = 4
TRUNCATED_SIZE = 4
ATTRIBUTION_SIZE = HOLD_TIME_SIZE * MAX_HOPS + TRUNCATED_SIZE * MAX_HOPS * (MAX_HOPS + 1) // 2

_HOLD_TIMES_SIZE = HOLD_TIME_SIZE * MAX_HOPS
_ROWS = tuple(
    pairwise(
        accumulate((TRUNCATED_SIZE * entries for entries in range(MAX_HOPS, 0, -1)), initial=_HOLD_TIMES_SIZE)
    )
)
"""Where each row of the triangle starts and ends."""

_COLUMNS = tuple(
    tuple(start // TRUNCATED_SIZE + column for start, _ in _ROWS[: MAX_HOPS - column])
    for column in range(MAX_HOPS)
)
"""Which words of the whole are the entries of each column, from the first row down."""

# One hop further away, each column but the first stands one row lower where the one before it stood:
# all that the entries of a node's own row cover, column after column.
_BELOW = itemgetter(*(word for column in _COLUMNS[1:] for word in column))
_BELOW_ENDS = tuple(accumulate((TRUNCATED_SIZE * len(column) for column in _COLUMNS[1:]), initial=0))


def update_attribution(
    shared_secret: bytes, packet: bytes, received: bytes | None, hold_time_deciseconds: int
) -> bytes:
    """The attribution data that a node sends back with a failure or a preimage (BOLT 4).

    Args:
        shared_secret: what peeling the onion gave.
        packet: a failure as received from downstream, or our own before its first encryption
            (`authenticated_failure`); empty for a fulfilled payment.
        received: the 920 bytes from downstream; None if there were none, or we are the origin of it.
        hold_time_deciseconds: how long the HTLC was with us and beyond, 0 if we do not say.
    """
    if received is None or len(received) != ATTRIBUTION_SIZE:
        received = bytes(ATTRIBUTION_SIZE)
    hold_times = hold_time_deciseconds.to_bytes(HOLD_TIME_SIZE, "big")
    hold_times += received[: _HOLD_TIMES_SIZE - HOLD_TIME_SIZE]
    covered = [
        b"".join((packet, hold_times[: HOLD_TIME_SIZE * (MAX_HOPS - column)], below))
        for column, below in enumerate(_below(received))
    ]
    own = [mac[:TRUNCATED_SIZE] for mac in hmacs_sha256(hmac_sha256(b"um", shared_secret), covered)]
    rows = [received[start + TRUNCATED_SIZE : end] for start, end in _ROWS[:-1]]
    filled = b"".join((hold_times, *own, *rows))
    return chacha20_xor(hmac_sha256(b"ammagext", shared_secret), filled)


def _below(received: bytes) -> list[bytes]:
    """What each entry of our own row covers of the rows below it, once they are pushed down."""
    words = array("I", _BELOW(memoryview(received).cast("I"))).tobytes()
    return [words[start:end] for start, end in pairwise(_BELOW_ENDS)] + [b""]


def verified_hold_times(shared_secrets: Sequence[bytes], packet: bytes, received: bytes) -> tuple[int, ...]:
    """The hold times, in deciseconds, of the hops from the first on whose attribution holds.

    With a failure of hop n these are n + 1. If no hop can be named by the failure itself, the
    one after the last of them is to blame, or the last: one changed what the other sent.

    Args:
        shared_secrets: of the whole route, not only up to the hop that failed.
        packet: the failure as it reached us, or empty for a fulfilled payment.
        received: the attribution data beside it.
    """
    hold_times: list[int] = []
    if len(received) != ATTRIBUTION_SIZE or len(shared_secrets) > MAX_HOPS:
        return ()
    for column, secret in enumerate(shared_secrets, start=MAX_HOPS - len(shared_secrets)):
        packet = wrap_failure(secret, packet) if packet else packet
        received = chacha20_xor(hmac_sha256(b"ammagext", secret), received)
        own = TRUNCATED_SIZE * _COLUMNS[column][0]
        found = received[own : own + TRUNCATED_SIZE]
        if not is_equal_constant_time(
            found, _truncated_hmac(hmac_sha256(b"um", secret), packet, received, column)
        ):
            break
        hold_times.append(int.from_bytes(received[:HOLD_TIME_SIZE], "big"))
        received = _pulled(received)
    return tuple(hold_times)


def _truncated_hmac(key: bytes, packet: bytes, attribution: bytes, column: int) -> bytes:
    """The entry of the first row that assumes 19 - column hops behind this one."""
    hold_times = attribution[: HOLD_TIME_SIZE * (MAX_HOPS - column)]
    words = memoryview(attribution).cast("I")
    below = array("I", [words[word] for word in _COLUMNS[column][1:]]).tobytes()
    return hmac_sha256(key, packet + hold_times + below)[:TRUNCATED_SIZE]


def _pulled(attribution: bytes) -> bytes:
    """One hop nearer to the origin; what was dropped on the way is zero, and nothing looks at it any more."""
    parts = [attribution[HOLD_TIME_SIZE:_HOLD_TIMES_SIZE], bytes(HOLD_TIME_SIZE)]
    for start, end in _ROWS[1:]:
        parts += [bytes(TRUNCATED_SIZE), attribution[start:end]]
    parts.append(bytes(TRUNCATED_SIZE))
    return b"".join(parts)
