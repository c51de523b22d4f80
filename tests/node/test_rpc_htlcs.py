"""The command that lists HTLCs, those that have ended too."""

from pathlib import Path

import pytest
import trio

from tests.node.line import Held
from tests.node.payments import settle
from tests.node.rpc_fields import check
from tests.node.rpc_stage import clients
from wire.scid import text_of

AMOUNT_MSAT = 5_000_000


async def test_htlcs_are_listed_with_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, bob, carol]):
        await net.pay("alice", "carol", AMOUNT_MSAT)
        await settle(net)
        held = Held(net["carol"], monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.pay, "alice", "carol", AMOUNT_MSAT)
            await held.wait_for(1)
            listed = [check("listhtlcs", row) for row in (await bob.call("listhtlcs"))["htlcs"]]
            numbers = [row["created_index"] for row in listed]
            assert numbers == sorted(set(numbers))
            ends = [text_of(net.short_channel_id("bob", name)) for name in ("alice", "carol")]
            rows = sorted(listed, key=lambda row: ends.index(row["short_channel_id"]))
            assert [(row["short_channel_id"], row["direction"], row["id"]) for row in rows] == [
                (ends[0], "in", 0),
                (ends[0], "in", 1),
                (ends[1], "out", 0),
                (ends[1], "out", 1),
            ]
            assert [row["state"] for row in rows] == [
                "SENT_REMOVE_ACK_REVOCATION",
                "RCVD_ADD_ACK_REVOCATION",
                "RCVD_REMOVE_ACK_REVOCATION",
                "SENT_ADD_ACK_REVOCATION",
            ]
            [channel] = (await carol.call("listpeerchannels"))["channels"]
            [shown] = channel["htlcs"]
            assert (shown["direction"], shown["state"]) == ("in", "RCVD_ADD_ACK_REVOCATION")
            [last] = (await bob.call("listhtlcs", index="created", start=numbers[-1], limit=5))["htlcs"]
            assert last == listed[-1]
            assert (await bob.call("listhtlcs", id=ends[0]))["htlcs"] == rows[:2]
            await held.release()
            monkeypatch.undo()
        await settle(net)
        assert await bob.code("listhtlcs", {"id": "1x1x1"}) == -32602
        assert await bob.code("listhtlcs", {"index": "updated"}) == -32602
        sent = check("xpay", await alice.call("xkeysend", destination=carol.id, amount_msat=5))
        assert (sent["amount_msat"], sent["successful_parts"], sent["failed_parts"]) == (5, 1, 0)
        await settle(net)
