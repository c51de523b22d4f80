"""What a node keeps of a channel's past: its states, its sums, and who has ended it."""

from pathlib import Path
from typing import Any

import pytest

from node.daemon.paying import PaymentFailed
from tests.node.line import PUSH_MSAT, Network
from tests.node.payments import settle
from tests.node.rpc_stage import Client, clients

AMOUNT_MSAT = 50_000


async def shown(client: Client) -> dict[str, Any]:
    [channel] = (await client.call("listpeerchannels"))["channels"]
    return dict(channel)


def sums(channel: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {
        f"{way} {kind}": (channel[f"{way}_payments_{kind}"], channel[f"{way}_{kind}_msat"])
        for way in ("in", "out")
        for kind in ("offered", "fulfilled")
    }


async def restarted(net: Network, a: str, b: str) -> Client:
    await net.stop(a)
    await net.start(a)
    await net.connect(a, b)
    return Client(net[a])


async def test_what_was_paid_over_a_channel_is_summed_up(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        before = await shown(alice)
        assert before["min_to_us_msat"] == before["max_to_us_msat"] == before["to_us_msat"]
        assert before["funding"]["pushed_msat"] == PUSH_MSAT
        await net.pay("alice", "bob", AMOUNT_MSAT)
        await net.pay("bob", "alice", 3 * AMOUNT_MSAT)
        with pytest.raises(PaymentFailed):
            await net.pay("alice", "bob", AMOUNT_MSAT, payment_secret=bytes(32))
        await settle(net)
        out, back = (2, 2 * AMOUNT_MSAT), (1, 3 * AMOUNT_MSAT)
        fulfilled = (1, AMOUNT_MSAT)
        ours = {"in offered": back, "in fulfilled": back, "out offered": out, "out fulfilled": fulfilled}
        theirs = {"in offered": out, "in fulfilled": fulfilled, "out offered": back, "out fulfilled": back}
        assert sums(await shown(alice)) == ours
        assert sums(await shown(bob)) == theirs
        alice = await restarted(net, "alice", "bob")
        again = await shown(alice)
        assert sums(again) == ours
        at_first = before["to_us_msat"]
        assert (again["min_to_us_msat"], again["max_to_us_msat"]) == (
            at_first - AMOUNT_MSAT,
            at_first + 2 * AMOUNT_MSAT,
        )


async def test_a_channels_states_are_told_until_its_end(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        [ready] = (await shown(alice))["state_changes"]
        assert (ready["old_state"], ready["new_state"]) == ("CHANNELD_AWAITING_LOCKIN", "CHANNELD_NORMAL")
        assert "closer" not in await shown(alice)
        await alice.call("close", id=bob.id)
        await net.chain.wait_for_mempool(lambda chain: bool(chain.regtest.mempool))
        await net.mine()
        for client, cause, closer in ((alice, "user", "local"), (bob, "remote", "remote")):
            channel = await shown(client)
            states = [change["new_state"] for change in channel["state_changes"]]
            assert states[0] == "CHANNELD_NORMAL"
            assert states[-1] == channel["state"] == "ONCHAIN"
            steps = [change["old_state"] for change in channel["state_changes"][1:]]
            assert steps == states[:-1]
            assert {change["cause"] for change in channel["state_changes"][1:-1]} == {cause}
            assert channel["state_changes"][-1]["cause"] == "onchain"
            assert channel["closer"] == closer
        await net.mine(110)
        [past] = (await bob.call("listclosedchannels"))["closedchannels"]
        assert (past["closer"], past["close_cause"]) == ("remote", "remote")
        assert past["funding_pushed_msat"] == PUSH_MSAT
