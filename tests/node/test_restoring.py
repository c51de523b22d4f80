"""A node that has lost everything but its seed and its backup has all its money back in the end."""

import shutil
from pathlib import Path

import pytest

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.backup import FILE_NAME
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Network, line, until
from tests.node.test_force_close import FEES_SAT, confirmed_sat, mine

both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)


async def lose_all_but_the_backup(net: Network, name: str) -> None:
    """The node dies, and with it its disk; the file was kept elsewhere."""
    await net.stop(name)
    directory = net._directory / name
    kept = (directory / FILE_NAME).read_bytes()
    shutil.rmtree(directory)
    directory.mkdir()
    (directory / FILE_NAME).write_bytes(kept)


async def closed_by(net: Network, a: str, b: str) -> None:
    """Return once `a` has published its commitment on the channel with `b`."""
    funding = net.channel(a, b).charter.funding_outpoint
    await net.chain.wait_for_mempool(lambda chain: chain.is_spent(funding))


@both_formats
@bolt("reestablish.4", "reestablish.7")
@pytest.mark.parametrize("loser", ["alice", "bob"])
async def test_seed_and_backup_bring_everything_back(tmp_path: Path, channel_type: bytes, loser: str) -> None:
    async with line(tmp_path, "alice bob", channel_type=channel_type) as net:
        other = "bob" if loser == "alice" else "alice"
        await net.pay("alice", "bob", 1_000_000_000)
        await net.pay("bob", "alice", 200_000_000)
        await net.wait_for_quiet()
        before = net.channel(loser, other)
        before_sat = {name: confirmed_sat(net, name) for name in net.nodes}
        await lose_all_but_the_backup(net, loser)
        await net.start(loser)
        await net.follow()
        await until(lambda: bool(net[loser].channels()))
        [channel] = net[loser].channels()
        assert (channel.phase, channel.is_restored) == (Phase.BEHIND, True)
        assert channel.charter.funding_outpoint == before.charter.funding_outpoint
        assert confirmed_sat(net, loser) == before_sat[loser]
        if loser == "bob":
            await net.connect("bob", "alice")
        await closed_by(net, other, loser)
        delay = before.charter.terms.remote.to_self_delay_blocks
        await mine(net, max(delay, 144) + 7)
        await net.wait_for_closed()
        gained = {name: confirmed_sat(net, name) - before_sat[name] for name in net.nodes}
        assert 0 <= before.settled_msat.local // 1000 - gained[loser] <= FEES_SAT
        assert 0 <= CAPACITY_SAT - sum(gained.values()) <= FEES_SAT
