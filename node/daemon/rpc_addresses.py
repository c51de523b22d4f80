"""Commands about the wallet's addresses, and what shows them to other wallets."""

from typing import Any

from node.daemon.node import Node
from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed, Integer, Text
from node.daemon.wallet_keys import LOOKAHEAD
from wire.bitcoin.address import InvalidAddress, address_of, script_of

_FORMS = ("bech32", "p2tr")


class AddressCommands:
    """Addresses of the wallet."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._network = node.chain.network

    async def newaddr(self, addresstype: Text | None = None) -> dict[str, Any]:
        """A fresh address of the wallet: bech32 (P2WPKH), p2tr, or both."""
        if addresstype not in (None, *_FORMS, "all"):
            why = f"addresstype: should be 'bech32', 'p2tr' or 'all': invalid token '{addresstype}'"
            raise CommandFailed(INVALID_PARAMETERS, why)
        both = self._shown(await self._node.switch.ask(self._node.switch.new_scripts))
        return {addresstype: both[addresstype]} if addresstype in both else both

    async def listaddresses(
        self, address: Text | None = None, start: Integer = 0, limit: Integer | None = None
    ) -> dict[str, Any]:
        """The addresses that were handed out, by the number of their key."""
        given = list(enumerate(self._node.wallet.given_scripts()))
        if address is not None:
            try:
                wanted = script_of(address, self._network)
            except InvalidAddress as bad:
                why = f"address: {bad}: invalid token '{address}'"
                raise CommandFailed(INVALID_PARAMETERS, why) from None
            given = [(index, scripts) for index, scripts in given if wanted in scripts]
        found = [(index, scripts) for index, scripts in given if index >= start][:limit]
        return {"addresses": [{"keyidx": index, **self._shown(scripts)} for index, scripts in found]}

    async def listdescriptors(self) -> dict[str, Any]:
        """What shows other wallets our coins, and no secret: as bitcoind's importdescriptors takes it."""
        return {
            "descriptors": [
                {
                    "desc": descriptor.text,
                    "timestamp": 0,
                    "active": True,
                    "internal": descriptor.is_change,
                    "range": [0, descriptor.next_index + LOOKAHEAD - 1],
                    "next_index": descriptor.next_index,
                }
                for descriptor in self._node.wallet.descriptors()
            ]
        }

    def _shown(self, scripts: tuple[bytes, bytes]) -> dict[str, str]:
        return {form: address_of(each, self._network) for form, each in zip(_FORMS, scripts, strict=True)}
