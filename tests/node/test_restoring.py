"""A node that has lost everything but its seed and its backup has all its money back in the end."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from htlc.backup import Backup, seal
from htlc.channel import Channel, Phase
from htlc.errors import ChannelError
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.resolution_identify import Ending
from node.daemon.backup import FILE_NAME
from node.daemon.node import Node
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Network, network, until
from tests.node.test_force_close import FEES_SAT, close_alone, confirmed_sat, mine
from wire.messages.base import Error
from wire.messages.channel import FundingSigned

DELAY_BLOCKS = 10

both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)


@asynccontextmanager
async def pair(directory: Path, channel_type: bytes = ANCHORS_TYPE) -> AsyncIterator[Network]:
    """Alice, Bob and their channel, on which both have paid."""
    async with network(directory) as net:
        await net.start("alice", "bob", to_self_delay_blocks=DELAY_BLOCKS)
        await net.join([("alice", "bob")], channel_type=channel_type)
        await net.pay("alice", "bob", 1_000_000_000)
        await net.pay("bob", "alice", 200_000_000)
        await net.wait_for_quiet()
        yield net


def lose_all_but(net: Network, name: str, backup: bytes) -> None:
    """The disk of a node that was stopped is lost; the backup was kept elsewhere."""
    directory = net._directory / name
    shutil.rmtree(directory)
    directory.mkdir()
    (directory / FILE_NAME).write_bytes(backup)


async def restore(net: Network, name: str) -> Channel:
    """Stop the node, lose its disk, and start it again from its backup; its channel then."""
    kept = net[name].backup.path.read_bytes()
    await net.stop(name)
    lose_all_but(net, name, kept)
    return await come_back(net, name)


async def come_back(net: Network, name: str) -> Channel:
    await net.start(name, to_self_delay_blocks=DELAY_BLOCKS)
    await net.follow()
    await until(lambda: bool(net[name].channels()))
    [channel] = net[name].channels()
    assert channel.is_restored
    return channel


async def closed_by(net: Network, a: str, b: str) -> None:
    """Return once `a` has published its commitment on the channel with `b`."""
    funding = net.channel(a, b).charter.funding_outpoint
    await net.chain.wait_for_mempool(lambda chain: chain.is_spent(funding))


def other_than(name: str) -> str:
    return "bob" if name == "alice" else "alice"


@both_formats
@bolt("reestablish.4", "reestablish.7")
@pytest.mark.parametrize("loser", ["alice", "bob"])
async def test_seed_and_backup_bring_everything_back(tmp_path: Path, channel_type: bytes, loser: str) -> None:
    async with pair(tmp_path, channel_type) as net:
        before = net.channel(loser, other_than(loser))
        before_sat = {name: confirmed_sat(net, name) for name in net.nodes}
        channel = await restore(net, loser)
        assert channel.phase is Phase.BEHIND
        assert channel.charter.funding_outpoint == before.charter.funding_outpoint
        assert confirmed_sat(net, loser) == before_sat[loser]
        if loser == "bob":
            # Alice has called him, and the gossip that would tell where she is is lost too
            await net.connect("bob", "alice")
        await closed_by(net, other_than(loser), loser)
        await mine(net, DELAY_BLOCKS + 7)
        await net.wait_for_closed()
        gained = {name: confirmed_sat(net, name) - before_sat[name] for name in net.nodes}
        assert 0 <= before.settled_msat.local // 1000 - gained[loser] <= FEES_SAT
        assert 0 <= CAPACITY_SAT - sum(gained.values()) <= FEES_SAT
        assert net[loser].backup.latest.entries == ()


@bolt("reestablish.7")
async def test_a_restored_channel_is_never_closed_with_our_own_commitment(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        await net["bob"].disconnect(net["alice"].node_id)
        channel = await restore(net, "alice")
        with pytest.raises(ChannelError):
            await net["alice"].force_close(channel.id)
        with pytest.raises(ChannelError):
            await net["alice"].close_channel(channel.id)
        peer_fails = Error(channel.id, b"it is over")

        def act(turn: Turn) -> None:
            turn.fail_channel(channel, "whatever happens")
            turn.switch._receive_error(turn, net["alice"].switch.peers[net["bob"].node_id], peer_fails)

        await until(lambda: net["bob"].node_id in net["alice"].switch.peers)
        await net["alice"].switch.ask(act)
        await closed_by(net, "bob", "alice")
        await mine(net, DELAY_BLOCKS + 7)
        assert net["alice"].store.broadcasts() == []
        spent = net["alice"].switch.resolver.resolutions[channel.id].spent
        assert spent is not None
        assert spent.ending is Ending.FUTURE


@both_formats
async def test_a_close_that_we_missed_is_found_in_the_chain(tmp_path: Path, channel_type: bytes) -> None:
    async with pair(tmp_path, channel_type) as net:
        ours_sat = net.channel("alice", "bob").settled_msat.local // 1000
        before_sat = confirmed_sat(net, "alice")
        kept = net["alice"].backup.path.read_bytes()
        await net.stop("alice")
        await close_alone(net, "bob", "alice")
        await mine(net, 20)
        lose_all_but(net, "alice", kept)
        await come_back(net, "alice")
        await mine(net, 7)
        await net.wait_for_closed()
        assert 0 <= ours_sat - (confirmed_sat(net, "alice") - before_sat) <= FEES_SAT


@both_formats
async def test_our_own_commitment_that_was_already_mined_pays_us_too(
    tmp_path: Path, channel_type: bytes
) -> None:
    async with pair(tmp_path, channel_type) as net:
        ours_sat = net.channel("alice", "bob").settled_msat.local // 1000
        before_sat = confirmed_sat(net, "alice")
        await close_alone(net, "alice", "bob")
        await restore(net, "alice")
        spent = net["alice"].switch.resolver.resolutions[net.ids["alice", "bob"]].spent
        assert spent is not None
        assert spent.ending is Ending.OURS
        await mine(net, DELAY_BLOCKS + 7)
        await net.wait_for_closed()
        assert 0 <= ours_sat - (confirmed_sat(net, "alice") - before_sat) <= FEES_SAT


async def test_a_channel_that_was_closed_together_since_needs_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        before_sat = confirmed_sat(net, "alice")
        kept = net["alice"].backup.path.read_bytes()
        ours_sat = net.channel("alice", "bob").settled_msat.local // 1000
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) > 0)
        await net.mine()
        await net.wait_for_closed()
        await net.stop("alice")
        lose_all_but(net, "alice", kept)
        await come_back(net, "alice")
        await net.wait_for_closed()
        assert 0 <= ours_sat - (confirmed_sat(net, "alice") - before_sat) <= FEES_SAT


@bolt("b5-on-chain.1")
async def test_a_restored_node_survives_its_own_death_and_a_reorganisation(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        ours_sat = net.channel("alice", "bob").settled_msat.local // 1000
        before_sat = confirmed_sat(net, "alice")
        await restore(net, "alice")
        await net.stop("alice")
        await net.start("alice", to_self_delay_blocks=DELAY_BLOCKS)
        await closed_by(net, "bob", "alice")
        await mine(net, 2)
        await net.stop("alice")
        await net.chain.reorganise(2, confirm=[])
        await net.start("alice", to_self_delay_blocks=DELAY_BLOCKS)
        await net.follow()
        await mine(net, DELAY_BLOCKS + 9)
        await net.wait_for_closed()
        assert 0 <= ours_sat - (confirmed_sat(net, "alice") - before_sat) <= FEES_SAT


# --- the file


def in_file(node: Node) -> Backup:
    found = node.backup.read()
    assert found is not None
    return found


@bolt("funding_created-funding_signed.4")
async def test_a_channel_is_in_the_file_before_it_can_hold_money(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        seen: list[str] = []

        def watch(name: str) -> None:
            release = net[name].switch._release

            def released(turn: Turn) -> None:
                signed = [m.channel_id for _, m in turn.outgoing if isinstance(m, FundingSigned)]
                funded = [c.id for c in turn.staged.values() if turn.broadcasts]
                for channel_id in (*signed, *funded):
                    seen.append(name)
                    assert channel_id in {entry.channel_id for entry in in_file(net[name]).entries}
                release(turn)

            net[name].switch._release = released  # type: ignore[method-assign]

        for name in net.nodes:
            watch(name)
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("alice", "bob")
        await net.open("alice", "bob")
        assert sorted(seen) == ["alice", "bob"]


async def test_the_file_follows_the_channels_and_the_addresses(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        [entry] = in_file(net["alice"]).entries
        assert (entry.host, entry.port) == ("127.0.0.1", net["bob"].port)
        await net.stop("bob")
        await net.start("bob", to_self_delay_blocks=DELAY_BLOCKS)
        await net.connect("alice", "bob")
        await until(lambda: in_file(net["alice"]).entries[0].port == net["bob"].port)
        number = in_file(net["alice"]).number
        await net.wait_for_usable()
        await net.pay("alice", "bob", 1_000_000)
        assert in_file(net["alice"]).number == number
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) > 0)
        await net.mine()
        await net.wait_for_closed()
        await until(lambda: in_file(net["alice"]).entries == ())


async def test_a_file_that_was_damaged_is_put_aside_and_written_anew(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        before = in_file(net["alice"])
        path = net["alice"].backup.path
        await net.stop("alice")
        path.write_bytes(b"garbage")
        await net.start("alice", to_self_delay_blocks=DELAY_BLOCKS)
        await until(path.exists)
        after = in_file(net["alice"])
        assert after.entries == before.entries
        assert after.number > before.number
        assert path.with_name(FILE_NAME + ".unusable").read_bytes() == b"garbage"
        await net.connect("alice", "bob")
        await net.wait_for_usable()


async def test_a_file_that_was_lost_is_written_anew(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        before = in_file(net["alice"])
        await net.stop("alice")
        net._directory.joinpath("alice", FILE_NAME).unlink()
        await net.start("alice", to_self_delay_blocks=DELAY_BLOCKS)
        await until(lambda: net["alice"].backup.path.exists())
        assert in_file(net["alice"]).entries == before.entries


async def test_a_death_between_the_commit_and_the_file_is_made_up_for(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        before, key = in_file(net["alice"]), net["alice"].signer.backup_key
        path = net["alice"].backup.path
        await net.stop("alice")
        earlier = msgspec.structs.replace(before, number=before.number - 1, entries=())
        path.write_bytes(seal(earlier, key, bytes(24)))
        await net.start("alice", to_self_delay_blocks=DELAY_BLOCKS)
        await until(lambda: in_file(net["alice"]).entries == before.entries)
        assert in_file(net["alice"]).number > before.number
