"""What `rill watchtower` runs: the tower, its chain, and the signals that end it."""

import sys
from typing import Any

import msgspec
import trio
import typer

from htlc.watchtower import Breach
from node.chain.interface import ChainTrouble, UnknownBlock
from node.cli.chain_access import open_chain
from node.cli.logs import start_logging
from node.cli.places import bind_address
from node.cli.signals import until_signal
from node.cli.watchtower import TowerOptions
from node.daemon.node import PortTaken
from node.daemon.store import Damaged, DatabaseInUse
from node.daemon.watchtower import DEFAULT_PORT, TowerConfig, Watchtower
from wire.bitcoin.tx import txid_hex

FAILED = 1
HOST = "127.0.0.1"
MIB = 1 << 20


def serve_watchtower(options: TowerOptions) -> int:
    """Run until a signal; return the exit code."""
    if options.log_file is None:
        start_logging(options.log_level, stream=sys.stderr)
    else:
        start_logging(options.log_level, [options.log_file])
    try:
        trio.run(_serve, options)
    except (ChainTrouble, UnknownBlock, PortTaken, DatabaseInUse, Damaged) as refused:
        typer.echo(f"rill: {refused}", err=True)
        return FAILED
    return 0


async def _serve(options: TowerOptions) -> None:
    async with until_signal() as nursery:
        chain = await open_chain(options.chain)
        host, port = bind_address(options.bind_addr, HOST, DEFAULT_PORT)
        config = TowerConfig(
            options.directory,
            host=host,
            port=port,
            most_client_bytes=options.client_mib * MIB,
            most_bytes=options.total_mib * MIB,
        )
        tower = Watchtower(config, chain)
        page = _Page(options.as_json)
        tower.pursuit.on_breach.append(page.show_breach)
        await nursery.start(tower.run)
        page.show_tower(tower)
        await trio.sleep_forever()


class _Page:
    """What the tower tells its owner."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def show_tower(self, tower: Watchtower) -> None:
        """It is ready."""
        address = f"{tower.node_id.hex()}@{tower.config.host}:{tower.port}"
        height, blobs = tower.pursuit.height, tower.store.count
        text = f"watchtower {address}\nwatching from height {height} with {blobs} sealed penalties"
        self._print({"watchtower": address, "height": height, "blobs": blobs}, text)

    def show_breach(self, breach: Breach) -> None:
        """Something has become of a breach."""
        shown = {
            "breach": txid_hex(breach.transaction.txid),
            "height": breach.height,
            "outputs": len(breach.targets),
            "taken": sum(target.is_ours for target in breach.targets),
            "taken_sat": breach.taken_sat,
        }
        text = "breach {breach} at height {height}: {taken} of {outputs} outputs taken, {taken_sat} sat"
        self._print(shown, text.format(**shown))

    def _print(self, shown: dict[str, Any], text: str) -> None:
        typer.echo(msgspec.json.encode(shown) if self._as_json else text)
