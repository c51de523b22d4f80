"""An LDK node in a process of its own, spoken with by JSON lines (see ldk/README.md)."""

import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from wire.crypto.secp256k1 import Point

PEER = Path(__file__).parent / "ldk" / "peer.mjs"
ANSWER_SECONDS = 60


class LdkRefused(Exception):
    """The LDK node answered a command with an error."""


class LdkPeer:
    """Commands are calls; events are kept in order and waited for."""

    def __init__(self, process: trio.Process, name: str) -> None:
        self._process, self.name = process, name
        self._numbers = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self.events: list[dict[str, Any]] = []
        self._news, self._writing = trio.Event(), trio.Lock()
        self.node_id: Point = b""
        self.port = 0

    async def read(self) -> None:
        """Take what it says until it ends."""
        rest = b""
        assert self._process.stdout is not None, "its output is a pipe"
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):
                said = msgspec.json.decode(line)
                if "event" in said:
                    self.events.append(said)
                else:
                    self._answers[said["rid"]] = said
            self._news.set()
            self._news = trio.Event()

    async def __call__(self, command: str, **arguments: object) -> Any:
        """One command's result.

        Raises:
            LdkRefused: it says no.
        """
        number = next(self._numbers)
        line = msgspec.json.encode({"rid": number, "cmd": command, **arguments})
        assert self._process.stdin is not None, "its input is a pipe"
        async with self._writing:
            await self._process.stdin.send_all(line + b"\n")
        with trio.fail_after(ANSWER_SECONDS):
            while number not in self._answers:
                await self._news.wait()
        answer = self._answers.pop(number)
        if not answer["ok"]:
            raise LdkRefused(f"{self.name}.{command}: {answer['error']}")
        return answer["result"]

    async def saw(self, event: str) -> dict[str, Any]:
        """The first event of this kind that nobody has taken yet."""
        with trio.fail_after(ANSWER_SECONDS):
            while True:
                for at, said in enumerate(self.events):
                    if said["event"] == event:
                        return self.events.pop(at)
                await self._news.wait()

    async def until(self, command: str, is_so: Callable[[Any], bool]) -> Any:
        """Ask again until the answer is as wished: it tells of no change by itself."""
        with trio.fail_after(ANSWER_SECONDS):
            while not is_so(answer := await self(command)):  # noqa: ASYNC110 - no event says so
                await trio.sleep(0.05)
        return answer

    async def stop(self) -> None:
        """End it, and wait until it has."""
        assert self._process.stdin is not None, "its input is a pipe"
        await self._process.stdin.aclose()
        with trio.move_on_after(5):
            await self._process.wait()
            return
        self._process.kill()
        await self._process.wait()


async def start_ldk(
    nursery: trio.Nursery, name: str, modules: Path, rpc_url: str, *, port: int, **options: object
) -> LdkPeer:
    """Start a node; it listens when this returns. `modules` holds node_modules."""
    settings = {
        "port": port,
        "rpc": rpc_url,
        "wallet": name,
        "alias": name,
        "seed": f"seed-{name}",
        **options,
    }
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    process = await trio.lowlevel.open_process(
        ["node", str(PEER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LDK_DIR": str(modules), **_environment()},
    )
    peer = LdkPeer(process, name)
    nursery.start_soon(peer.read)
    peer.node_id = bytes.fromhex((await peer.saw("started"))["node_id"])
    peer.port = port
    return peer


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
