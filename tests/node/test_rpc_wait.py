"""Waiting for what is new: the numbers of invoices, attempts and passages, which never go back."""

from pathlib import Path
from typing import Any

import pytest
import trio

from node.daemon.paying import PaymentFailed
from tests.node.line import Held, until
from tests.node.payments import settle
from tests.node.rpc_stage import Client, clients
from wire.scid import text_of

AMOUNT_MSAT = 50_000


class Waiting:
    """A client that waits for a number, and what it was told."""

    def __init__(self, nursery: trio.Nursery, client: Client, kind: str, index: str, number: int) -> None:
        self.told: dict[str, Any] = {}
        self._node = client.node

        async def wait() -> None:
            self.told |= await client.call("wait", subsystem=kind, indexname=index, nextvalue=number)

        nursery.start_soon(wait)

    async def begun(self) -> "Waiting":
        await until(lambda: bool(self._node.switch.indexes.on_counted))
        return self

    async def done(self) -> dict[str, Any]:
        await until(lambda: bool(self.told))
        return self.told


async def now(client: Client, subsystem: str, index: str) -> int:
    told = await client.call("wait", subsystem=subsystem, indexname=index, nextvalue=0)
    assert told.keys() == {"subsystem", index}
    number: int = told[index]
    return number


async def test_an_invoice_is_waited_for_from_its_making_to_its_end(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]), trio.open_nursery() as nursery:
        assert await now(bob, "invoices", "created") == 0
        made = await Waiting(nursery, bob, "invoices", "created", 1).begun()
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="tea")
        row = {"status": "unpaid", "label": "one", "description": "tea", "bolt11": asked["bolt11"]}
        assert await made.done() == {"subsystem": "invoices", "created": 1, "invoices": row}
        paid = await Waiting(nursery, bob, "invoices", "updated", 1).begun()
        await alice.call("pay", bolt11=asked["bolt11"])
        assert (await paid.done())["invoices"]["status"] == "paid"
        await bob.call("invoice", amount_msat=1, label="two", description="")
        [changed] = (await bob.call("listinvoices", index="updated", start=1))["invoices"]
        assert (changed["label"], changed["updated_index"]) == ("one", 1)
        gone = await Waiting(nursery, bob, "invoices", "deleted", 1).begun()
        await bob.call("delinvoice", label="one", status="paid")
        assert (await gone.done())["invoices"]["label"] == "one"
        assert await bob.code("wait", ["peers", "created", 0]) == -32602
        await settle(net)


async def test_no_number_is_given_out_twice(tmp_path: Path) -> None:
    """Not even after the newest row was deleted, and the node started anew."""
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="one", description="")
        await alice.call("pay", bolt11=asked["bolt11"])
        [sent] = (await alice.call("listsendpays"))["payments"]
        await alice.call("delpay", payment_hash=asked["payment_hash"], status="complete")
        await bob.call("delinvoice", label="one", status="paid")
        await settle(net)
        for name in ("alice", "bob"):
            await net.stop(name)
            await net.start(name)
        await net.connect("alice", "bob")
        alice, bob = Client(net["alice"]), Client(net["bob"])
        asked = await bob.call("invoice", amount_msat=AMOUNT_MSAT, label="two", description="")
        assert asked["created_index"] == 2
        await until(lambda: bool(net["alice"].switch.live))
        await alice.call("pay", bolt11=asked["bolt11"])
        assert (await bob.call("waitanyinvoice", lastpay_index=1))["pay_index"] == 2
        [again] = (await alice.call("listsendpays"))["payments"]
        assert again["created_index"] > sent["created_index"]
        assert (again["updated_index"], await now(alice, "sendpays", "deleted")) == (2, 1)
        await settle(net)


async def test_attempts_and_passages_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [alice, bob, _]), trio.open_nursery() as nursery:
        await net.pay("alice", "carol", AMOUNT_MSAT)
        [one] = (await alice.call("listsendpays"))["payments"]
        held = Held(net["carol"], monkeypatch)
        sent = await Waiting(nursery, alice, "sendpays", "created", one["created_index"] + 2).begun()
        offered = await Waiting(nursery, bob, "forwards", "created", 2).begun()
        nursery.start_soon(net.pay, "alice", "carol", AMOUNT_MSAT)
        told = (await sent.done())["sendpays"]
        assert (told["status"], told["partid"], told["groupid"]) == ("pending", 1, 1)
        passage = (await offered.done())["forwards"]
        assert (passage["status"], passage["in_msat"] > AMOUNT_MSAT) == ("offered", True)
        assert passage["in_channel"] == text_of(net.short_channel_id("alice", "bob"))
        await held.wait_for(1)
        rows = (await bob.call("listforwards"))["forwards"]
        assert [(row["created_index"], row["status"]) for row in rows] == [(1, "settled"), (2, "offered")]
        ended = await Waiting(nursery, bob, "forwards", "updated", 2).begun()
        over = await Waiting(nursery, alice, "sendpays", "updated", 2).begun()
        await held.release()
        assert (await ended.done())["forwards"]["status"] == "settled"
        assert (await over.done())["sendpays"]["status"] == "complete"
        [row] = (await bob.call("listforwards", index="updated", start=2))["forwards"]
        assert (row["created_index"], row["updated_index"]) == (2, 2)
        await settle(net)


async def test_a_passage_is_forgotten_by_its_name(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob carol") as (net, [_, bob, _]):
        await net.pay("alice", "carol", AMOUNT_MSAT)
        with pytest.raises(PaymentFailed):
            await net.pay("alice", "carol", AMOUNT_MSAT, payment_secret=bytes(32))
        await settle(net)
        [settled, failed] = (await bob.call("listforwards"))["forwards"]
        named = {"in_channel": settled["in_channel"], "in_htlc_id": settled["in_htlc_id"]}
        assert await bob.code("delforward", {**named, "status": "failed"}) == 1401
        assert await bob.code("delforward", {**named, "status": "offered"}) == -32602
        fees_msat = (await bob.call("getinfo"))["fees_collected_msat"]
        assert await bob.call("delforward", **named, status="settled") == {}
        assert (await bob.call("listforwards"))["forwards"] == [failed]
        assert (await bob.call("getinfo"))["fees_collected_msat"] == fees_msat > 0
        assert await now(bob, "forwards", "deleted") == 1
