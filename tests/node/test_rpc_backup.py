"""Core Lightning's commands for backups."""

from pathlib import Path

from htlc.backup import unseal
from htlc.channel import Phase
from tests.node.line import until
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client
from tests.node.test_force_close import FEES_SAT, confirmed_sat, mine
from tests.node.test_restoring import closed_by, pair


async def test_backups_are_told_and_taken_in_by_commands(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        alice, channel = Client(net["alice"]), net.channel("alice", "bob")
        told = await alice.call("staticbackup")
        check("staticbackup", told)
        sealed = await alice.call("getemergencyrecoverdata")
        check("getemergencyrecoverdata", sealed)
        assert sealed["backed_up_channel_ids"] == [channel.id.hex()]
        opened = unseal(bytes.fromhex(sealed["filedata"]), net["alice"].signer.backup_key)
        assert opened == net["alice"].backup.read()
        # all of it is known here
        assert await alice.call("recoverchannel", scb=told["scb"]) == {"stubs": []}
        assert await alice.call("emergencyrecover") == {"stubs": []}
        for scb in ([told["scb"][0][:-2]], ["garbage"], [5], "none"):
            assert await alice.code("recoverchannel", {"scb": scb}) == -32602
        path = net["alice"].backup.path
        path.write_bytes(b"garbage")
        assert await alice.code("emergencyrecover") == -1
        path.unlink()
        assert await alice.code("emergencyrecover") == -1


async def test_a_channel_that_was_lost_is_recovered_by_command(tmp_path: Path) -> None:
    async with pair(tmp_path) as net:
        channel = net.channel("alice", "bob")
        [scb] = (await Client(net["alice"]).call("staticbackup"))["scb"]
        await net["bob"].disconnect(net["alice"].node_id)
        await net.stop("alice")
        net._directory.joinpath("alice").rename(tmp_path / "lost")
        await net.start("alice")
        await net.follow()
        alice = Client(net["alice"])
        recovered = await alice.call("recoverchannel", scb=[scb])
        check("recoverchannel", recovered)
        assert recovered == {"stubs": [channel.id.hex()]}
        await until(lambda: channel.id in net["alice"].switch.channels)
        [view] = (await alice.call("listpeerchannels"))["channels"]
        assert (view["state"], view["lost_state"]) == ("AWAITING_UNILATERAL", True)
        assert await alice.code("close", {"id": channel.id.hex()}) == -1
        await closed_by(net, "bob", "alice")
        await mine(net, 20)
        assert net.channel("alice", "bob").phase is Phase.CLOSED
        # this wallet began anew, so what it has is what it has swept
        swept_sat = confirmed_sat(net, "alice")
        assert 0 <= channel.settled_msat.local // 1000 - swept_sat <= FEES_SAT
        assert (await alice.call("close", id=channel.id.hex()))["type"] == "unilateral"
