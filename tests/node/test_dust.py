"""Dust exposure between real nodes: what would be left out of a commitment is bounded everywhere."""

from pathlib import Path

import pytest
import trio

from htlc.dust import dust_exposure_msat
from htlc.ladder import Side
from tests.bolt import bolt
from tests.node.line import Held, Network, network
from tests.node.payments import failure_of, settle
from wire.units import Msat

MOST = Msat(1_000_000)
DUST = 300_000


async def a_line(net: Network, strict: str, names: str = "alice bob carol") -> None:
    """A line of which one node allows little dust."""
    for name in names.split():
        await net.start(name, **({"most_dust_exposure_msat": MOST} if name == strict else {}))
    await net.join(zip(names.split(), names.split()[1:], strict=False))


@bolt("forwarding-safety.5")
@pytest.mark.parametrize(
    ("strict", "reason"),
    [
        ("alice", "msat would have no output, 1000000 are allowed"),
        ("bob", "temporary_channel_failure, says hop 1"),
        ("carol", "temporary_channel_failure, says hop 2"),
    ],
)
async def test_dust_that_waits_keeps_more_of_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: str, reason: str
) -> None:
    async with network(tmp_path) as net:
        await a_line(net, strict)
        held = Held(net["carol"], monkeypatch)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(net.pay, "alice", "carol", DUST)
            await held.wait_for(3)
            failed = await failure_of(net, "alice", "carol", DUST)
            assert reason in failed.reason
            # what has an output is welcome, and so is dust once the channel is empty again
            nursery.start_soon(net.pay, "alice", "carol", 10 * DUST)
            await held.wait_for(4)
            for channel in net[strict].channels():
                assert all(dust_exposure_msat(channel, owner) <= MOST for owner in Side)
            await held.release()
        await net.wait_for_quiet()
        monkeypatch.undo()
        await net.pay("alice", "carol", DUST)
        await settle(net)


@bolt("forwarding-safety.5")
async def test_a_flood_of_dust_is_failed_back_and_costs_no_channel(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await a_line(net, "carol", "bob carol")
        arrived: list[bool] = []

        async def pay() -> None:
            try:
                await net.pay("bob", "carol", DUST)
                arrived.append(True)
            except Exception:  # noqa: BLE001 - counted, whatever it is
                arrived.append(False)

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(pay)
        assert sorted(set(arrived)) == [False, True]
        await settle(net)
        assert net.channel("bob", "carol").settled_msat.remote == 5_000_000_000 + DUST * sum(arrived)
