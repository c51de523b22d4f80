"""Programs of Rill as processes of their own: the chain, and nodes that are driven over their sockets."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import trio

from node.daemon.rpc_client import NodeClient
from tests.node.backends import CREDENTIALS, RillChain

READY = "Server started with public key"
END_SECONDS = 60
LOOK_SECONDS = 0.02


class Program:
    """A `rill` command that runs until it is ended."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, *arguments: str, python: Sequence[str] = ()) -> None:
        """`python` is what is said to the interpreter."""
        command = [sys.executable, *python, "-m", "node.cli.main", *arguments]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(self._process)
        self.said: list[str] = []

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait_for(self, text: str) -> None:
        """Return once it has said this.

        Raises:
            AssertionError: it ended before.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
            if text in line:
                return
        raise AssertionError("".join(self.said))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, unless it has ended; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.code()

    def code(self) -> int:
        """Its exit code, once it has ended."""
        rest, _ = self._process.communicate(timeout=END_SECONDS)
        self.said.append(rest)
        return self._process.returncode


class RillNode(Program):
    """`rill node`."""

    def __init__(self, directory: Path, chain_port: int, *more: str, python: Sequence[str] = ()) -> None:
        self.client = NodeClient(directory / "regtest")
        super().__init__(
            "node",
            f"--lightning-dir={directory}",
            f"--alias={directory.name}",
            "--bind-addr=127.0.0.1:0",
            f"--bitcoin-rpcport={chain_port}",
            f"--bitcoin-rpcuser={CREDENTIALS.user}",
            f"--bitcoin-rpcpassword={CREDENTIALS.password}",
            *more,
            python=python,
        )

    async def call(self, method: str, **params: Any) -> Any:
        return await self.client.call(method, **params)


@contextmanager
def running(directory: Path, port: int, names: str) -> Iterator[tuple[RillChain, list[RillNode]]]:
    """A chain, and a node for each name, until the end of the test."""
    chain = RillChain(directory / "chain", port)
    nodes = [RillNode(directory / name, port) for name in names.split()]
    try:
        for node in nodes:
            node.wait_for(READY)
        yield chain, nodes
    finally:
        for node in nodes:
            node.end()
        chain.close()


async def until(is_so: Callable[[], Any]) -> None:
    """Return once something is so in another process, which tells nobody."""
    while not await is_so():  # noqa: ASYNC110 - there is no event between processes
        await trio.sleep(LOOK_SECONDS)
