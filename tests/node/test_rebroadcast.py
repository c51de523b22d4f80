"""What a mempool forgets is given to it again, until a block has settled it."""

from collections.abc import Iterator

import pytest

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, Wish
from tests.node.lockstep import Line, quick_directory
from wire.units import Msat, Sat

IRREVOCABLE_BLOCKS = 100


@pytest.fixture
def line() -> Iterator[Line]:
    with quick_directory() as directory, Line(directory, "alice bob") as line:
        line.fund((node, value_sat) for node in line.nodes for value_sat in (1_100_000, 200_000))
        line.links[0].join()
        yield line


def open_channel(line: Line) -> None:
    """Until the funding transaction waits."""
    line.begin_opening(line.links[0], Wish(Sat(1_000_000), Msat(500_000_000), 1000, ANCHORS_TYPE, True))
    line.settle()


def forget(line: Line) -> None:
    """A node that all share is started anew, and a block passes."""
    assert line.chain.regtest.mempool.clear()
    line.mine()
    line.settle()


def test_a_forgotten_funding_transaction_is_given_again(line: Line) -> None:
    open_channel(line)
    forget(line)
    line.mine(4)
    line.settle()
    assert all(node.channel_with(other).is_usable for node, other in (line.nodes, line.nodes[::-1]))


def test_a_forgotten_closing_transaction_is_given_again(line: Line) -> None:
    alice, bob = line.nodes
    open_channel(line)
    line.mine(4)
    line.settle()
    alice.close(alice.channel_with(bob).id)
    line.settle()
    forget(line)
    line.mine()
    assert alice.channel_with(bob).phase is bob.channel_with(alice).phase is Phase.CLOSED


def test_it_waits_again_if_its_block_is_undone(line: Line) -> None:
    alice, bob = line.nodes
    open_channel(line)
    line.mine(2)
    funding = alice.channel_with(bob).charter.funding_outpoint
    line.chain.regtest.reorganise(2, line.chain.faucet.script, ())
    line.follow()
    forget(line)
    assert funding.txid in line.chain.regtest.mempool


def test_it_is_forgotten_when_its_block_is_irrevocable(line: Line) -> None:
    alice = line.nodes[0]
    open_channel(line)
    [funding] = alice.store.broadcasts()
    line.mine(IRREVOCABLE_BLOCKS)
    assert (alice.store.broadcasts(), alice.store.waiting_broadcasts()) == ([funding], [])
    line.mine()
    assert alice.store.broadcasts() == []


def test_what_was_replaced_is_forgotten_as_well(line: Line) -> None:
    alice, bob = line.nodes
    open_channel(line)
    line.mine(4)
    line.settle()
    alice.close(alice.channel_with(bob).id)
    line.settle()
    # each closes at its own cost, and one of the two transactions is mined
    assert len(bob.store.waiting_broadcasts()) == 2
    line.mine()
    assert bob.store.waiting_broadcasts() == []
