"""A node that is behind its peers loses nothing to them (BOLT 2, data loss), and is not talked into it."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from htlc.channel import Phase
from tests.bolt import bolt
from tests.node.lockstep import quick_directory
from tests.properties.old_disks import Story, play
from wire.messages.catalogue import decode, encode
from wire.messages.channel import ChannelReestablish

the_data_loss = bolt("reestablish.3", "reestablish.7")


def run(seeds: range) -> set[str]:
    """Who lost a disk."""
    names = set()
    for seed in seeds:
        with quick_directory() as directory:
            names.add(play(directory, seed).victim.name)
    return names


@the_data_loss
def test_who_goes_on_from_an_old_disk_keeps_the_money() -> None:
    assert run(range(8)) == {"alice", "bob", "carol"}


@pytest.mark.slow
@the_data_loss
def test_who_goes_on_from_an_old_disk_keeps_the_money_in_many_lives() -> None:
    run(range(100, 140))


@the_data_loss
@pytest.mark.parametrize("ahead", [1, 2, 1000])
def test_a_peer_that_only_says_that_we_are_behind_is_not_believed(tmp_path: Path, ahead: int) -> None:
    """Without the secret that we must have given it, the channel is failed, and our commitment published."""
    story = Story(tmp_path, seed=0)
    with story.line:
        story.open()
        alice, bob, _ = story.line.nodes
        story.pay(alice, bob)
        [near, _] = story.line.links
        near.cut()
        near.join()
        channel, said = alice.channel_with(bob), near.ends[1].said
        messages = [decode(raw) for raw in said]
        [told] = [message for message in messages if isinstance(message, ChannelReestablish)]
        # Bob says a number that is to come, and the best secret that he has
        lie = replace(told, next_revocation_number=told.next_revocation_number + ahead)
        said[messages.index(told)] = encode(lie)
        near.deliver(0, len(said))
        alice.turn()
        assert alice.channel_with(bob).phase is Phase.FAILED
        published = [transaction.inputs[0].outpoint for transaction in alice.published.values()]
        assert channel.charter.funding_outpoint in published
