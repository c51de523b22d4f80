"""What the tests of payments say over and over."""

import msgspec
import pytest

from htlc.relay import Toll
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.payments import AttemptRow, PaymentRow
from tests.node.line import Network

AMOUNT = 10_000_000
TOLL = Toll()


async def failure_of(
    net: Network, payer: str, payee: str, amount_msat: int = AMOUNT, **options: object
) -> PaymentFailed:
    """Why a payment fails that must fail."""
    with pytest.raises(PaymentFailed) as failed:
        await net.pay(payer, payee, amount_msat, **options)
    return failed.value


def attempts(node: Node) -> list[AttemptRow]:
    """The attempts as they are on disk."""
    return [msgspec.msgpack.decode(raw, type=AttemptRow) for raw in node.store.values("attempts")]


def payments_on_disk(node: Node) -> dict[bytes, PaymentRow]:
    rows = [msgspec.msgpack.decode(raw, type=PaymentRow) for raw in node.store.values("payments")]
    return {row.payment_hash: row for row in rows}


def set_toll(net: Network, a: str, b: str, toll: Toll) -> None:
    """Let `a` ask for something else than it has told everybody."""
    net[a].switch.tolls[net.ids[a, b]] = toll


async def settle(net: Network) -> None:
    """Wait until nothing is in flight, and account for every millisatoshi."""
    await net.wait_for_quiet()
    net.check_conserved()


DETAILS = "incorrect_or_unknown_payment_details"
