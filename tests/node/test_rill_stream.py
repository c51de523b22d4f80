"""Selling and buying as a user does it: commands, running nodes, and nodes that are killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.cli.main import run
from tests.node.backends import RillChain
from tests.node.conftest import _free_port
from tests.node.processes import READY, Program, RillNode, running, until
from tests.node.test_rill_node import fund, join

CLIENT = Path(__file__).parents[2] / "docs" / "l402_client.py"
CHUNK = 16_384
PRICE_MSAT = 400_000


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    yield
    for started in (Program.started, RillChain.started):
        while started:
            process = started.pop()
            if process.poll() is None:
                process.kill()
                process.communicate()


async def rill(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of ours as a process."""
    command = [sys.executable, "-m", "node.cli.main", *arguments]
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)


async def said(*arguments: str) -> Any:
    """The JSON that a command prints."""
    done = await rill(*arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


async def is_linked(node: RillNode) -> bool:
    channels = (await node.call("listpeerchannels"))["channels"]
    return all(channel["reestablished"] for channel in channels)


@pytest.mark.slow
async def test_a_film_is_shared_fetched_killed_and_fetched_on(tmp_path: Path) -> None:
    film = tmp_path / "film.bin"
    await trio.to_thread.run_sync(film.write_bytes, os.urandom(300 * CHUNK - 5))
    port = _free_port()
    with running(tmp_path, port, "alice eric") as (chain, [alice, eric]):
        await fund(chain, alice)
        await join(chain, alice, eric)
        where = [f"--lightning-dir={tmp_path / name}" for name in ("alice", "eric")]
        wish = ("share", str(film), f"--chunk-size={CHUNK}", "--free-chunks=2", where[1])
        [share] = (await said(*wish))["shares"]
        assert (share["chunks"], share["price_msat"]) == (300, PRICE_MSAT)
        provider = share["link"].partition("/")[2]
        [listed] = (await said("browse", provider, where[0]))["titles"]
        assert (listed["root"], listed["total_msat"]) == (share["root"], 298 * PRICE_MSAT)

        # over budget it stops, and says so
        budget = f"--per-title-msat={20 * PRICE_MSAT}"
        stopped = await rill("fetch", share["link"], f"--out={tmp_path / 'copy'}", budget, where[0])
        assert stopped.returncode == 1
        assert b"over the budget of 8000000 msat per title" in stopped.stderr

        # the buyer's node is killed while it pays
        await alice.call("fetch", link=share["link"], out=str(tmp_path / "copy"))

        async def has_half() -> bool:
            [title] = (await alice.call("listtitles"))["titles"]
            return bool(title["chunks_bought"] > 40)

        await until(has_half)
        alice.end(signal.SIGKILL)
        again = RillNode(tmp_path / "alice", port)
        again.wait_for(READY)
        await until(partial(is_linked, again))
        done = await said("fetch", share["link"], f"--out={tmp_path / 'copy'}", where[0])
        assert done["delivered"] == str(tmp_path / "copy")
        assert done["spent_msat"] == 298 * PRICE_MSAT, "what was paid is not paid again"
        await trio.to_thread.run_sync(check_same, tmp_path / "copy", film)

        # the seller's node is killed, and knows what it sells and what it sold
        eric.end(signal.SIGKILL)
        back = RillNode(tmp_path / "eric", port)
        back.wait_for(READY)
        sales = await said("sales", where[1])
        assert [each["root"] for each in sales["shares"]] == [share["root"]]
        assert sum(each["chunks"] for each in sales["sales"]) == 298
        assert sales["earned_msat"] == 298 * PRICE_MSAT
        assert (await said("sales", where[0]))["spent_msat"] == 298 * PRICE_MSAT
        again.end()
        back.end()


def check_same(copy: Path, film: Path) -> None:
    assert copy.read_bytes() == film.read_bytes()


@pytest.mark.slow
async def test_any_wallet_buys_at_the_door(tmp_path: Path) -> None:
    film = tmp_path / "film.bin"
    await trio.to_thread.run_sync(film.write_bytes, os.urandom(5 * CHUNK + 100))
    with running(tmp_path, _free_port(), "alice eric") as (chain, [alice, eric]):
        await fund(chain, alice)
        await join(chain, alice, eric)
        share = await eric.call("share", path=str(film), chunk_size=CHUNK, free_chunks=1)
        url = (await eric.call("opendoor"))["url"]
        assert url.startswith("http://127.0.0.1:")
        pay = f"{sys.executable} -m node.cli.main cli --json --lightning-dir={tmp_path / 'alice'} pay"
        command = [sys.executable, str(CLIENT), url, share["root"], str(tmp_path / "copy"), f"--pay={pay}"]
        await trio.run_process(command)
        await trio.to_thread.run_sync(check_same, tmp_path / "copy", film)
        [sale] = (await eric.call("listsales"))["sales"]
        assert (sale["chunks"], sale["received_msat"]) == (5, 5 * PRICE_MSAT)


def test_mistakes_are_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    link = f"rill:{64 * '0'}/{'02' + 64 * '1'}@127.0.0.1:1"
    there = tmp_path / "there"
    there.write_bytes(b"")
    nobody = f"--lightning-dir={tmp_path}"
    for arguments, says in (
        (["fetch", link, f"--out={there}", nobody], "exists already"),
        (["fetch", link, f"--out={tmp_path / 'no' / 'where'}", nobody], "is no directory"),
        (["fetch", link, f"--out={tmp_path / 'new'}", nobody], "no node answers"),
        (["share", str(there), nobody], "no node answers"),
        (["verify-fraud", str(there)], "no proof of a fraud"),
        (["verify-fraud", str(tmp_path / "none")], "no such file"),
        (["meter", "serve", "wifi", "--price-msat=1", "--per=hour", nobody], "not one of second, unit"),
    ):
        assert run(arguments) in (1, 2)
        out, err = capfd.readouterr()
        assert not out
        assert err.startswith("rill: ")
        assert says in err
        assert err.count("\n") == 1
