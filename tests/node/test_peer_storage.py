"""Peers keep each other's backups (BOLT 1, peer storage)."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from htlc.backup import PEER_STORAGE_BYTES, Backup, BadBackup, seal_for_peers, unseal
from htlc.channel import Phase
from node.daemon.backup import FILE_NAME
from node.daemon.node import Node
from node.daemon.peer import Peer
from node.daemon.peer_storage import KEPT_BLOCKS
from tests.bolt import bolt
from tests.node.caller import answers, calling
from tests.node.line import Network, network, until
from tests.node.test_force_close import FEES_SAT, confirmed_sat, mine
from tests.node.test_restoring import closed_by
from wire.codec import Message
from wire.messages.base import PeerStorage, PeerStorageRetrieval
from wire.messages.channel import ChannelReestablish


def kept_for(keeper: Node, owner: Node) -> bytes | None:
    return keeper.storer._kept.blob_of(owner.node_id)


def backup_in(keeper: Node, owner: Node) -> Backup | None:
    """What a node keeps for another, as its owner reads it."""
    blob = kept_for(keeper, owner)
    try:
        return unseal(blob or b"", owner.signer.backup_key)
    except BadBackup:
        return None


def has_latest(keeper: Node, owner: Node) -> bool:
    return backup_in(keeper, owner) == owner.backup.latest


@asynccontextmanager
async def keeping(directory: Path, pairs: list[tuple[str, str]]) -> AsyncIterator[Network]:
    """Nodes with channels, whose peers have their latest backups."""
    async with network(directory) as net:
        for name in dict.fromkeys(name for pair in pairs for name in pair):
            await net.start(name, to_self_delay_blocks=10)
        await net.join(pairs)
        for a, b in pairs:
            await until(lambda a=a, b=b: has_latest(net[a], net[b]) and has_latest(net[b], net[a]))  # type: ignore[misc]
        yield net


@bolt("peer-storage.1", "peer-storage.3")
async def test_peers_keep_the_latest_backup_of_each_other(tmp_path: Path) -> None:
    async with keeping(tmp_path, [("alice", "bob")]) as net:
        first = kept_for(net["bob"], net["alice"])
        assert first is not None
        assert len(first) == PEER_STORAGE_BYTES
        await net.start("carol")
        await net.join([("alice", "carol")])
        await until(lambda: has_latest(net["bob"], net["alice"]))
        backup = backup_in(net["bob"], net["alice"])
        assert backup is not None
        assert {entry.channel_id for entry in backup.entries} == set(net["alice"].switch.channels)
        assert kept_for(net["bob"], net["alice"]) != first


@bolt("peer-storage.2")
async def test_a_backup_is_given_back_before_a_channel_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keeping(tmp_path, [("alice", "bob")]) as net:
        said: list[Message] = []
        send = Peer.send

        def recorded(peer: Peer, message: Message) -> None:
            if peer.node_id == net["alice"].node_id:
                said.append(message)
            send(peer, message)

        kept = kept_for(net["bob"], net["alice"])
        await net.part("alice", "bob")
        monkeypatch.setattr(Peer, "send", recorded)
        await net.connect("alice", "bob")
        await until(lambda: any(isinstance(message, ChannelReestablish) for message in said))
        assert said[0] == PeerStorageRetrieval(kept or b"")
        # what it has is the latest, so it is not sent again
        await until(lambda: bool(net["alice"].storer._holding))
        assert net["alice"].storer._holding == {net["bob"].node_id: net["alice"].backup.latest.number}


@bolt("peer-storage.1")
async def test_who_has_no_channel_stores_nothing(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as stranger:
        await stranger.send(PeerStorage(b"much"))
        assert await answers(stranger)
        assert net["bob"].storer._kept.all() == []


@bolt("reestablish.7")
async def test_a_seed_alone_gets_the_backup_from_a_peer(tmp_path: Path) -> None:
    async with keeping(tmp_path, [("alice", "bob")]) as net:
        await net.pay("alice", "bob", 1_000_000_000)
        await net.wait_for_quiet()
        ours_sat = net.channel("alice", "bob").settled_msat.local // 1000
        await net.stop("alice")
        shutil.rmtree(tmp_path / "alice")
        await net.start("alice")
        await net.follow()
        await net.connect("alice", "bob")
        await until(lambda: bool(net["alice"].channels()))
        await closed_by(net, "bob", "alice")
        await mine(net, 20)
        await net.wait_for_closed()
        assert 0 <= ours_sat - confirmed_sat(net, "alice") <= FEES_SAT


@bolt("peer-storage.3")
@pytest.mark.parametrize("returned", ["garbage", "another's", "old", "empty"])
async def test_what_a_peer_gives_back_changes_nothing_that_is_known(tmp_path: Path, returned: str) -> None:
    async with keeping(tmp_path, [("alice", "bob")]) as net:
        alice, bob = net["alice"], net["bob"]
        old = Backup(1, alice.switch.house.chain_hash, 0, 0, (0, 0), alice.backup.latest.entries)
        blob = {
            "garbage": b"\x01" * PEER_STORAGE_BYTES,
            "another's": bob.backup.sealed_for_peers(),
            "old": seal_for_peers(old, alice.signer.backup_key, bytes(24)),
            "empty": b"",
        }[returned]
        before, number = alice.channels(), alice.backup.latest.number
        await net.part("alice", "bob")
        with bob.store.transaction():
            bob.storer._kept.put(alice.node_id, blob)
        await net.connect("alice", "bob")
        # it learns nothing, and gives its latest again
        await until(lambda: has_latest(bob, alice))
        await net.wait_for_usable()
        assert [c.charter for c in alice.channels()] == [c.charter for c in before]
        assert (alice.backup.latest.number, alice.backup.pending) == (number, {})
        await net.pay("alice", "bob", 1_000_000)


async def test_an_old_database_learns_from_a_peer_what_it_has_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with keeping(tmp_path, [("alice", "bob")]) as net:
        await net.stop("alice")
        shutil.copytree(tmp_path / "alice", tmp_path / "copy")
        await net.start("alice", to_self_delay_blocks=10)
        await net.start("carol", to_self_delay_blocks=10)
        await net.join([("alice", "carol")])
        await net.pay("carol", "alice", 1_000_000_000)
        await net.wait_for_quiet()
        lost = net.channel("alice", "carol")
        await until(lambda: has_latest(net["bob"], net["alice"]))
        number = net["alice"].backup.latest.number
        await net.stop("alice")
        shutil.rmtree(tmp_path / "alice")
        shutil.copytree(tmp_path / "copy", tmp_path / "alice")
        (tmp_path / "alice" / FILE_NAME).unlink()
        await net.start("alice", to_self_delay_blocks=10)
        await net.follow()
        before_sat = confirmed_sat(net, "alice")
        await net.connect("alice", "bob")
        await until(lambda: lost.id in net["alice"].switch.channels)
        assert "a backup knows channels that the database does not" in caplog.text
        assert net["alice"].backup.latest.number > number
        # the address came with it: nobody has to tell where Carol is
        await closed_by(net, "carol", "alice")
        await mine(net, 20)
        await until(lambda: net.channel("alice", "carol").phase is Phase.CLOSED)
        assert net.channel("alice", "bob").phase is Phase.NORMAL
        gained_sat = confirmed_sat(net, "alice") - before_sat
        assert 0 <= lost.settled_msat.local // 1000 - gained_sat <= FEES_SAT


@bolt("peer-storage.1")
async def test_a_backup_is_kept_for_two_weeks_after_the_last_channel(tmp_path: Path) -> None:
    async with keeping(tmp_path, [("alice", "bob")]) as net:
        bob, alice_id = net["bob"], net["alice"].node_id
        await net["alice"].close_channel(net.ids["alice", "bob"])
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) > 0)
        await net.mine()
        await net.wait_for_closed()
        height = bob.switch.height

        async def look(blocks: int) -> dict[bytes, int | None]:
            bob.switch.height = height + blocks
            await bob.switch.ask(bob.storer._sweep)
            return dict(bob.storer._kept.all())

        assert await look(0) == {alice_id: height}
        assert await look(KEPT_BLOCKS - 1) == {alice_id: height}
        assert await look(KEPT_BLOCKS) == {}
