"""What is over is forgotten: by age where our user says so, and what the node asked for by itself."""

from pathlib import Path
from typing import Any

import pytest

from node.cli.node_config import config_of
from node.cli.node_options import read_settings
from node.daemon.invoices import LAPSED_SECONDS
from tests.node.line import line, network
from tests.node.rpc_stage import Client
from wire.units import Msat


async def kinds(client: Client, kind: str, age: int) -> tuple[int, int]:
    """How many were forgotten, and how many are left."""
    found = (await client.call("autoclean-once", subsystem=kind, age=age))["autoclean"]
    assert list(found) == [kind]
    return found[kind]["cleaned"], found[kind]["uncleaned"]


async def test_what_is_old_enough_is_forgotten_for_good(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        alice, bob, carol = (Client(net[name]) for name in ("alice", "bob", "carol"))
        for label in ("paid", "unpaid"):
            asked = await carol.call("invoice", amount_msat=5000, label=label, description="x", expiry=600)
            if label == "unpaid":
                await carol.call("delinvoice", label=label, status="unpaid")
            await alice.reply("pay", {"bolt11": asked["bolt11"]})
        await carol.call("invoice", amount_msat=5000, label="unpaid", description="x", expiry=600)
        await net.wait_for_quiet()
        everything = [
            (alice, "succeededpays", 1),
            (alice, "failedpays", 1),
            (bob, "succeededforwards", 1),
            (bob, "failedforwards", 1),
            (carol, "paidinvoices", 1),
            (carol, "expiredinvoices", 0),
        ]
        net.clock.seconds += 500
        for client, kind, count in everything:
            assert await kinds(client, kind, 1000) == (0, count)
        net.clock.seconds += 600
        for client, kind, count in everything:
            # what was not paid has an end that came later than all of these
            assert await kinds(client, kind, 1000) == ((count, 0) if count else (0, 1))
        assert await kinds(carol, "expiredinvoices", 400) == (1, 0)
        for name in ("alice", "bob", "carol"):
            await net.stop(name)
            await net.start(name)
        alice, bob, carol = (Client(net[name]) for name in ("alice", "bob", "carol"))
        assert (await alice.call("listpays"))["pays"] == (await alice.call("listsendpays"))["payments"] == []
        assert (await bob.call("listforwards"))["forwards"] == []
        assert (await carol.call("listinvoices"))["invoices"] == []
        # what was earned stays
        assert (await bob.call("getinfo"))["fees_collected_msat"] > 0
        status = (await carol.call("autoclean-status"))["autoclean"]
        assert {kind: each["cleaned"] for kind, each in status.items() if each["cleaned"]} == {
            "paidinvoices": 1,
            "expiredinvoices": 1,
        }
        assert not any(each["enabled"] for each in status.values())


@pytest.mark.parametrize("params", [["invoices", 5], ["paidinvoices", 0], ["paidinvoices"]])
async def test_what_cannot_be_cleaned_is_said(tmp_path: Path, params: list[Any]) -> None:
    async with network(tmp_path, "alice") as net:
        assert await Client(net["alice"]).code("autoclean-once", params) == -32602


async def test_what_the_configuration_says_is_forgotten_by_itself(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net:
        await net.start("alice", cleaning_ages_seconds={"expiredinvoices": 50}, cleaning_cycle_seconds=0)
        alice = Client(net["alice"])
        status = await alice.call("autoclean-status", subsystem="expiredinvoices")
        assert status["autoclean"] == {"expiredinvoices": {"enabled": True, "age": 50, "cleaned": 0}}
        await alice.call("invoice", amount_msat=5000, label="x", description="x", expiry=60)
        net.clock.seconds += 200
        while alice.node.switch.invoices.rows:
            await net["alice"].switch.ask(lambda _: None)
        status = await alice.call("autoclean-status", subsystem="expiredinvoices")
        assert status["autoclean"]["expiredinvoices"]["cleaned"] == 1


def test_the_ages_are_options(tmp_path: Path) -> None:
    options = ["--autoclean-cycle=60", "--autoclean-paidinvoices-age=86400", "--autoclean-failedpays-age=0"]
    config = config_of(read_settings([f"--lightning-dir={tmp_path}", *options]), tmp_path)
    assert config.cleaning_ages_seconds == {"paidinvoices": 86400}
    assert config.cleaning_cycle_seconds == 60


async def test_what_a_node_asked_for_by_itself_is_forgotten_when_it_has_lapsed(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        bob = net["bob"]
        for number in range(20):
            row = await bob.add_invoice(Msat(5000), expiry_seconds=60)
            if number == 3:
                await net["alice"].pay_invoice(bob.bolt11(row))
        kept = await Client(bob).call("invoice", amount_msat=5000, label="mine", description="x", expiry=60)
        net.clock.seconds += 60 + LAPSED_SECONDS
        await bob.add_invoice(Msat(5000))
        assert len(bob.switch.invoices.rows) == 22
        await net.stop("bob")
        await net.start("bob")
        bob = net["bob"]
        net.clock.seconds += 1
        await bob.add_invoice(Msat(5000), expiry_seconds=60)
        # left are what was paid, what our user has a name for, and what is new
        rows = sorted(bob.switch.invoices.rows.values(), key=lambda row: row.created_index)
        assert [(row.is_paid, bool(row.label)) for row in rows] == [
            (True, False),
            (False, True),
            (False, False),
            (False, False),
        ]
        assert bytes.fromhex(kept["payment_hash"]) in bob.switch.invoices.rows
        # on disk, too
        await net.stop("bob")
        await net.start("bob")
        assert len(net["bob"].switch.invoices.rows) == 4
