"""What was said is on disk, and what is on disk can be said again (DESIGN §3)."""

from pathlib import Path

import pytest
import trio

from node.daemon.peer import Peer
from tests.bolt import bolt
from tests.node.line import Held, line
from wire.codec import Message
from wire.messages.channel import UpdateFulfillHtlc


@bolt("forwarding-safety.2", "reestablish.1")
async def test_a_preimage_that_comes_together_with_a_new_connection_goes_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        held = Held(net["carol"], monkeypatch)
        switch, alice_id = net["bob"].switch, net["alice"].node_id
        deliver = switch.deliver

        def with_a_new_connection(peer: Peer, message: Message) -> None:
            deliver(peer, message)
            if isinstance(message, UpdateFulfillHtlc):
                switch.add_peer(switch.peers[alice_id])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.pay, "alice", "carol", 1_000_000)
            await held.wait_for(1)
            switch.deliver = with_a_new_connection  # type: ignore[method-assign]
            await held.release()
            await net.chain.tip()
            while net["bob"].node_id in net["alice"].switch.peers:
                await trio.lowlevel.checkpoint()
            await net.connect("alice", "bob")
        await net.wait_for_quiet()
        net.check_conserved()
