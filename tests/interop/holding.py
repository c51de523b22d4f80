"""Invoices of ours that our user decides on."""

import trio

from node.daemon.node import Node
from tests.interop.stage import LOOK_SECONDS, PATIENCE_SECONDS
from tests.node.rpc_stage import Client
from wire.crypto.hashes import sha256


async def hold(rill: Node, preimage: bytes, amount_msat: int) -> str:
    """A new one, in BOLT 11's words."""
    payment_hash = sha256(preimage).hex()
    asked = await Client(rill).call("holdinvoice", payment_hash=payment_hash, amount=amount_msat)
    return str(asked["bolt11"])


async def held(rill: Node, *preimages: bytes) -> None:
    """Wait until all of what they ask for is here."""
    invoices, waiting = rill.switch.invoices, rill.switch.gathering.waiting

    def are_here() -> bool:
        return all(each in waiting and invoices.is_accepted(each) for each in map(sha256, preimages))

    with trio.fail_after(PATIENCE_SECONDS):
        while not are_here():  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(LOOK_SECONDS)


async def take(rill: Node, preimage: bytes) -> None:
    """Decide to be paid."""
    await Client(rill).call("settleholdinvoice", preimage=preimage.hex())


async def refuse(rill: Node, preimage: bytes) -> None:
    """Decide not to be paid."""
    await Client(rill).call("cancelholdinvoice", payment_hash=sha256(preimage).hex())
