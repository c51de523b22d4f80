"""Nodes as processes of their own, driven over their sockets, on a chain that this process serves."""

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from node.chain.embedded import EmbeddedChain
from node.chain.http import Credentials
from node.chain.served import ServedChain
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed

HOST, USER, PASSWORD = "127.0.0.1", "rill", "rill"
START_SECONDS = 60.0
CALL_SECONDS = 120.0
_PROGRAM = (sys.executable, "-c", "from node.cli.main import main; main()")


class DaemonFailed(Exception):
    """A node process did not come up, or answered a command with an error."""


class Daemon:
    """One node process: killed, started again, asked."""

    def __init__(self, name: str, directory: Path, chain_port: int, port: int = 0) -> None:
        """A port of 0 stands for one that is free now."""
        self.name, self.directory, self.port = name, directory, port or free_port()
        self._chain_port = chain_port
        self._process: subprocess.Popen[bytes] | None = None
        self.node_id = ""

    @property
    def is_up(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process's number; the process is up."""
        assert self._process is not None, "it is up"
        return self._process.pid

    async def start(self) -> None:
        """Start the process; it answers when this returns.

        Raises:
            DaemonFailed: it does not.
        """
        options = {
            "lightning-dir": self.directory,
            "alias": self.name,
            "bind-addr": f"{HOST}:{self.port}",
            "bitcoin-rpcconnect": HOST,
            "bitcoin-rpcport": self._chain_port,
            "bitcoin-rpcuser": USER,
            "bitcoin-rpcpassword": PASSWORD,
            "log-file": self.directory.with_suffix(".log"),
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [*_PROGRAM, "node", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with trio.move_on_after(START_SECONDS):
            while self._process.poll() is None:
                try:
                    self.node_id = (await self.call("getinfo"))["id"]
                except OSError:
                    await trio.sleep(0.02)
                else:
                    return
        raise DaemonFailed(f"{self.name} did not start: see {self.directory.with_suffix('.log')}")

    async def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await trio.to_thread.run_sync(self._process.wait)
            self._process = None

    async def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()
            await trio.to_thread.run_sync(self._process.wait)
            self._process = None

    async def call(self, method: str, **parameters: object) -> Any:
        """One command's result.

        Raises:
            DaemonFailed: it answers with an error.
            OSError: it is not there, or went away before it answered.
        """
        try:
            with trio.fail_after(CALL_SECONDS):
                return await NodeClient(self.directory / "regtest").call(method, **parameters)
        except CommandFailed as failed:
            raise DaemonFailed(f"{self.name}: {method}: {failed}") from None
        except NodeUnreachable as gone:
            raise ConnectionResetError(str(gone)) from None


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_daemons(names: list[str]) -> AsyncIterator[tuple[EmbeddedChain, list[Daemon]]]:
    """A served chain and nodes on it; all are killed and forgotten afterwards."""
    with TemporaryDirectory(prefix="rill-lab-") as folder, EmbeddedChain() as chain:
        served = ServedChain(chain, credentials=Credentials(USER, PASSWORD))
        daemons: list[Daemon] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(served.run)
            daemons.extend(Daemon(name, Path(folder) / name, served.port) for name in names)
            try:
                async with trio.open_nursery() as starting:
                    for daemon in daemons:
                        starting.start_soon(daemon.start)
                yield chain, daemons
            finally:
                with trio.CancelScope(shield=True):
                    for daemon in daemons:
                        await daemon.kill()
                nursery.cancel_scope.cancel()
