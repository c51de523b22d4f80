"""A stage on which Electrum wallets play too, each a process of its own."""

from typing import Any

from node.daemon.node import Node
from tests.interop.electrum_peer import ElectrumPeer
from tests.interop.electrum_server import ElectrumServer
from tests.interop.stage import FUNDS_SAT, HOST, Stage


class ElectrumStage(Stage):
    """A chain with a server for wallets, and whoever is on it."""

    def __init__(self, program: str, server: ElectrumServer, *stage: Any) -> None:
        super().__init__(*stage)
        self._program, self._server = program, server
        self.wallets: dict[str, ElectrumPeer] = {}

    async def electrum(self, name: str, **config: Any) -> ElectrumPeer:
        """A wallet of theirs with a bitcoin."""
        wallet = ElectrumPeer(
            self._program,
            self._folder / f"{name}-electrum",
            server=self._server.port,
            rpc_port=self._ports(),
            port=self._ports(),
            **config,
        )
        await wallet.start()
        self.wallets[name] = wallet
        await self.bitcoind.pay(await wallet("getunusedaddress"), FUNDS_SAT)
        await self.mine(1)
        return wallet

    async def restart_electrum(self, name: str) -> None:
        """Stop a wallet, and start it again with all that it has kept."""
        await self.wallets[name].stop()
        await self.wallets[name].start()

    async def mine(self, count: int) -> None:
        async with self._server.looking:  # so that it sees them all at once
            await super().mine(count)
        await self._server.look()
        height = await self.bitcoind.call("getblockcount")
        for wallet in self.wallets.values():
            await wallet.height(height)

    async def close(self) -> None:
        for wallet in self.wallets.values():
            await wallet.stop()
        await super().close()


def address(rill: Node) -> str:
    """A node of ours, as wallets connect to it."""
    return f"{rill.node_id.hex()}@{HOST}:{rill.port}"
