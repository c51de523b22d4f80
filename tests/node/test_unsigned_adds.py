"""HTLCs that were offered and never signed: they are forgotten in time, and failed where they came from."""

from collections.abc import Iterator

import pytest

from htlc.opening import ANCHORS_TYPE, Wish
from node.daemon.payments import Status
from tests.bolt import bolt
from tests.node.lockstep import Line, Link, quick_directory
from wire.units import Msat, Sat

AMOUNT_MSAT = 50_000_000
LONG_BLOCKS = 300


@pytest.fixture
def line() -> Iterator[Line]:
    """Three nodes with two open channels."""
    with quick_directory() as directory, Line(directory, "alice bob carol") as line:
        line.fund((node, value_sat) for node in line.nodes for value_sat in (1_100_000, 200_000, 200_000))
        for link in line.links:
            link.join()
            line.begin_opening(link, Wish(Sat(1_000_000), Msat(500_000_000), 1000, ANCHORS_TYPE, True))
            line.settle()
        line.mine(3)
        line.settle()
        yield line


def settle(link: Link) -> None:
    """Deliver and turn until there is nothing to say on this link."""
    while link.waiting(0) or link.waiting(1):
        for to in (0, 1):
            link.deliver(to, link.waiting(to))
            link.nodes[to].turn()


def stalled(line: Line) -> bytes:
    """Carol owes Bob a revocation, so what Alice sends her waits for Bob's next signature; its hash."""
    alice, bob, carol = line.nodes
    mine, others = (carol.add_invoice(AMOUNT_MSAT, number) for number in range(2))
    route = line.route(bob, carol, AMOUNT_MSAT, LONG_BLOCKS)
    bob.pay(route, mine.payment_hash, mine.payment_secret)
    alice.pay(line.route(alice, carol, AMOUNT_MSAT), others.payment_hash, others.payment_secret)
    settle(line.links[0])
    [unsigned] = [htlc for htlc in bob.channel_with(carol).htlcs.local.values() if not htlc.entered]
    assert unsigned.payment_hash == others.payment_hash
    return others.payment_hash


def wait_for_failure(line: Line, payment_hash: bytes) -> None:
    """Mine until Alice has her HTLC back, while Carol says nothing."""
    alice, bob, _ = line.nodes
    while alice.switch.payments.rows[payment_hash].status is Status.PENDING:
        line.chain.regtest.mine(1, line.chain.faucet.script)
        for node in (alice, bob):
            node.follow()
        settle(line.links[0])
    assert alice.switch.payments.rows[payment_hash].status is Status.FAILED


@bolt("forwarding-safety.1", "forwarding-safety.3")
def test_a_peer_that_withholds_its_revocation_is_not_paid_for_what_has_expired(line: Line) -> None:
    """Upstream it has been failed long before, so we would pay for it."""
    _, bob, carol = line.nodes
    payment_hash = stalled(line)
    height = line.chain.regtest.height
    wait_for_failure(line, payment_hash)
    # at the latest when it expires downstream, not only when it would expire upstream
    assert line.chain.regtest.height <= height + 18
    for _ in range(2):
        settle(line.links[1])
        line.links[1].join()
        line.settle()
    carol.follow()
    assert carol.switch.invoices.rows[payment_hash].is_paid is False
    assert bob.channel_with(carol).is_usable
    rows = sorted(carol.switch.invoices.rows.values(), key=lambda row: row.created_index)
    assert [row.is_paid for row in rows] == [True, False]


@bolt("forwarding-safety.1")
def test_what_was_not_signed_when_the_connection_broke_is_failed_in_time(line: Line) -> None:
    alice, bob, carol = line.nodes
    payment_hash = stalled(line)
    line.links[1].cut()
    wait_for_failure(line, payment_hash)
    assert all(htlc.entered for htlc in bob.channel_with(carol).htlcs.local.values())
    assert alice.channel_with(bob).is_usable


def test_what_was_not_signed_when_the_connection_broke_is_said_again_while_there_is_time(line: Line) -> None:
    payment_hash = stalled(line)
    line.links[1].cut()
    line.links[1].join()
    line.settle()
    assert line.nodes[0].switch.payments.rows[payment_hash].status is Status.COMPLETE
