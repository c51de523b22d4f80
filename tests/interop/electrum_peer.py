"""An Electrum daemon with one wallet in a process of its own, driven over its JSON-RPC."""

import base64
import http.client
import os
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from wire.crypto.secp256k1 import Point

HOST = "127.0.0.1"
USER = PASSWORD = "rill"
FIELD = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CALL_SECONDS = 120
# Electrum gathers what it asks for a second, to hide from who watches its line; it need not do so here
PROMPTLY = """
import runpy, sys
import electrum.interface
electrum.interface.PaddedRSTransport.WAIT_FOR_BUFFER_GROWTH_SECONDS = 0
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.05


class ElectrumRefused(Exception):
    """It answered a command with an error."""


def installed_electrum() -> str:
    """The program, or skip the test with the reason."""
    named = os.environ.get("ELECTRUM") or shutil.which("electrum")
    program = Path(named) if named else Path.home() / ".cache/electrum/bin/electrum"
    if not program.exists():
        pytest.skip("no electrum here: tests/interop/install-electrum brings one, ELECTRUM names another")
    return str(program)


def bitcoin(sat: int) -> str:
    """An amount as Electrum's commands take it."""
    return str(Decimal(sat) / 10**8)


class ElectrumPeer:
    """Commands are calls; what changes by itself is asked for until it is so."""

    def __init__(
        self,
        program: str,
        directory: Path,
        *,
        server: int,
        rpc_port: int,
        port: int,
        seed: str = "",
        **config: object,
    ) -> None:
        interpreter = Path(program).read_text().splitlines()[0].removeprefix("#!")
        self.command = [interpreter, "-c", PROMPTLY, program, "--regtest", "-D", str(directory)]
        self._rpc_port, self.port = rpc_port, port
        self.node_id: Point = b""
        self._process: trio.Process | None = None
        folder = directory / "regtest"
        folder.mkdir(parents=True)
        settings = {
            "config_version": 3,
            "server": f"{HOST}:{server}:t",
            "oneserver": True,
            "auto_connect": False,
            "check_updates": False,
            "log_to_file": True,
            "rpcsock": "tcp",
            "rpcport": rpc_port,
            "rpcuser": USER,
            "rpcpassword": PASSWORD,
            "lightning_listen": f"{HOST}:{port}",
            "use_gossip": True,
            **config,
        }
        (folder / "config").write_bytes(msgspec.json.encode(settings))
        begin = ["restore", seed] if seed else ["create"]
        subprocess.run([*self.command, "--offline", *begin], check=True, stdout=subprocess.DEVNULL)

    async def in_bitcoin(self) -> int:
        """What it has on the chain, in satoshis."""
        balance = await self("getbalance")
        return round(sum(float(balance.get(kind, 0)) for kind in ("confirmed", "unconfirmed")) * 10**8)

    @property
    def address(self) -> str:
        """Where it listens, as its like connects to it."""
        return f"{self.node_id.hex()}@{HOST}:{self.port}"

    async def start(self) -> None:
        """Run it, with its wallet open."""
        self._process = await trio.lowlevel.open_process(
            [*self.command, "daemon"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with trio.fail_after(PATIENCE_SECONDS):
            while not await self._is_up():  # noqa: ASYNC110 - its socket tells nobody
                await trio.sleep(LOOK_SECONDS)
        await self("load_wallet")
        self.node_id = bytes.fromhex((await self("nodeid")).split("@")[0])

    async def _is_up(self) -> bool:
        try:
            return bool(await self("ping"))
        except OSError:
            return False

    async def stop(self) -> None:
        """End it, and wait until it has."""
        assert self._process is not None, "it runs"
        self._process.terminate()
        await self._process.wait()

    async def __call__(self, command: str, **arguments: object) -> Any:
        """One command's result.

        Raises:
            ElectrumRefused: it says no.
        """
        return await trio.to_thread.run_sync(self._call, command, arguments, abandon_on_cancel=True)

    def _call(self, command: str, arguments: dict[str, object]) -> Any:
        connection = http.client.HTTPConnection(HOST, self._rpc_port, timeout=CALL_SECONDS)
        body = msgspec.json.encode({"id": 1, "method": command, "params": arguments})
        connection.request("POST", "/", body, {"Authorization": FIELD})
        answer = msgspec.json.decode(connection.getresponse().read())
        connection.close()
        if error := answer.get("error"):
            raise ElectrumRefused(f"{command}: {error.get('data', {}).get('exception') or error['message']}")
        return answer["result"]

    # --- what tests wait for

    async def height(self, height: int) -> None:
        """Wait until it knows this block, and what it has for the wallet."""
        await self.until("getinfo", lambda told: told["blockchain_height"] >= height)
        await self("wait_for_sync")

    async def open(self, count: int) -> None:
        """Wait until so many channels carry payments."""
        await self.channels(
            lambda rows: [(row["state"], row["peer_state"]) for row in rows] == [("OPEN", "GOOD")] * count
        )

    async def channels(self, are_so: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until its channels look as wished."""
        await self.until("list_channels", are_so)

    async def until(self, command: str, is_so: Callable[[Any], bool], **arguments: object) -> Any:
        """Ask again until the answer is as wished."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not is_so(answer := await self(command, **arguments)):  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(LOOK_SECONDS)
        return answer

    async def invoice(self, sat: int) -> str:
        """A BOLT 11 invoice."""
        asked = await self("add_request", amount=bitcoin(sat), lightning=True)
        return str(asked["lightning_invoice"])

    async def pay(self, invoice: str) -> None:
        """Pay one.

        Raises:
            ElectrumRefused: it did not succeed.
        """
        answer = await self("lnpay", invoice=invoice)
        if not answer["success"]:
            raise ElectrumRefused(str(answer["log"]))
