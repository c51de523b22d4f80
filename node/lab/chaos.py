"""Chaos: real nodes as processes, under payments, killed, cut, reorganised and cheated on.

At the end everything is closed, and every satoshi is stated.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from htlc.channel import Channel
from htlc.resolution_claims import our_commitment
from htlc.transactions import anchor_output
from node.chain.embedded import EmbeddedChain
from node.chain.interface import Rejected
from node.daemon.signer import Signer
from node.daemon.store import Store
from node.daemon.wallet import SCHEMA
from node.lab.daemons import Daemon, DaemonFailed, running_daemons
from node.lab.statement import ChaosReport, ChaosWish, Ledger, Payments
from wire.bitcoin.address import script_of
from wire.bitcoin.tx import OutPoint, Transaction, TxOut, txid_hex
from wire.units import Sat

FUNDS_SAT, CAPACITY_SAT = Sat(5_000_000), Sat(2_000_000)
AMOUNTS_MSAT = (1, 1000, 100_000, 400_000, 2_000_000, 20_000_000)
PAYERS = 4
NORMAL = "CHANNELD_NORMAL"
LAST_BLOCKS = 400
PATIENCE_SECONDS = 180.0
BLOCK_SECONDS = 2.0
PUNISHED_BLOCKS = 20


class Chaos:
    """One run."""

    def __init__(
        self, wish: ChaosWish, chain: EmbeddedChain, daemons: list[Daemon], say: Callable[[str], None]
    ) -> None:
        self.report = ChaosReport(wish.seed, Payments())
        self._wish, self._chain, self._daemons, self._say = wish, chain, daemons, say
        self._dice = random.Random(wish.seed)
        self._is_over = False
        self._may_pay = trio.Event()
        self._may_pay.set()
        self._begun: dict[str, tuple[Daemon, str]] = {}
        self._funded: dict[OutPoint, Sat] = {}
        self._ledger = Ledger(chain, 1)

    # --- building up

    async def build(self) -> None:
        """Fund everybody, and open a ring of channels."""
        scripts = [script_of((await daemon.call("newaddr"))["bech32"], "regtest") for daemon in self._daemons]
        self._ledger = Ledger(self._chain, (await self._chain.tip()).height + 1)
        await self._chain.fund_many([TxOut(FUNDS_SAT, script) for script in scripts])
        self._ledger.read()
        self._funded = self._ledger.outputs_to(scripts)
        self.report.start_sat = sum(self._funded.values())
        await self._all_know()
        for one, other in self._neighbours():
            await one.call("connect", id=other.node_id, host="127.0.0.1", port=other.port)
            await one.call("fundchannel", id=other.node_id, amount=CAPACITY_SAT, push_msat=CAPACITY_SAT * 500)
        while len(self._chain.regtest.mempool) < len(self._neighbours()):  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.02)
        await self._chain.mine(6)
        await self._all_know()
        edges = 2 * len(self._neighbours())
        for daemon in self._daemons:
            await _until(daemon, "listchannels", lambda found: len(found["channels"]) == edges)

    def _neighbours(self) -> list[tuple[Daemon, Daemon]]:
        ring = [*self._daemons[1:], self._daemons[0]] if len(self._daemons) > 2 else self._daemons[1:]
        return list(zip(self._daemons, ring, strict=False))

    async def _all_know(self) -> None:
        height = (await self._chain.tip()).height
        for daemon in self._daemons:
            if daemon.is_up:
                await _until(daemon, "getinfo", lambda found: found["blockheight"] >= height)

    # --- traffic

    async def pay_forever(self) -> None:
        """One payment after another between random nodes."""
        while not self._is_over:
            await self._may_pay.wait()
            payer, payee = self._dice.sample(self._daemons, 2)
            label, amount_msat = f"{self._dice.random()}", self._dice.choice(AMOUNTS_MSAT)
            try:
                invoice = await payee.call(
                    "invoice", amount_msat=amount_msat, label=label, description="chaos"
                )
                self._begun[invoice["payment_hash"]] = (payer, invoice["bolt11"])
                await payer.call("pay", bolt11=invoice["bolt11"], retry_for=5)
            except (OSError, DaemonFailed):
                await trio.sleep(0.05)

    # --- trouble

    async def trouble(self, seconds: float) -> None:
        """Trouble of every kind until the time is over; the cheat comes half-way."""
        end, has_cheated = trio.current_time() + seconds, False
        acts = (self._kill, self._kill, self._cut, self._cut, self._reorganise, self._mine)
        while trio.current_time() < end:
            await trio.sleep(self._dice.uniform(0.2, 1.2))
            if not has_cheated and trio.current_time() > end - seconds / 2:
                has_cheated = True
                await self._cheat()
            else:
                await self._dice.choice(acts)()

    async def _kill(self) -> None:
        daemon = self._dice.choice(self._daemons)
        self._say(f"killing {daemon.name}")
        await daemon.kill()
        self.report.kills += 1
        await trio.sleep(self._dice.uniform(0, 1))
        await daemon.start()

    async def _cut(self) -> None:
        one, other = self._dice.choice(self._neighbours())
        self._say(f"cutting {one.name} from {other.name}")
        self.report.cuts += 1
        with suppress(OSError, DaemonFailed):
            await one.call("disconnect", id=other.node_id, force=True)
            await trio.sleep(self._dice.uniform(0, 0.5))
            await one.call("connect", id=other.node_id, host="127.0.0.1", port=other.port)

    async def _mine(self) -> None:
        await self._chain.mine(1)

    async def _reorganise(self) -> None:
        depth = self._dice.randint(1, 3)
        self._say(f"reorganising {depth} blocks")
        await self._chain.reorganise(depth)
        self.report.reorgs += 1

    async def _cheat(self) -> None:
        """One node publishes the state before its last payments, while nothing is on its way."""
        self._may_pay = trio.Event()
        try:
            await self._rest()
            pairs = [pair for one, other in self._neighbours() for pair in ((one, other), (other, one))]
            for cheat, victim in self._dice.sample(pairs, len(pairs)):
                if await self._publish_revoked(cheat, victim):
                    break
        finally:
            self._may_pay.set()

    async def _publish_revoked(self, cheat: Daemon, victim: Daemon) -> bool:
        """Let one cheat the other, if they still have a channel; whether a revoked state was published."""
        old = await self._state_of(cheat, victim)
        await cheat.start()
        if old is None:
            return False
        self._say(f"{cheat.name} cheats {victim.name}")
        await self._reconnect()
        before, transaction = old
        for _ in range(3):
            await self._pay_directly(cheat, victim)
        now = await self._state_of(cheat, victim)
        is_revoked = now is not None and now[0].number.local > before.number.local
        try:
            if is_revoked:
                await self._chain.broadcast(transaction)
                self.report.breaches_punished += await self._is_punished(before, transaction, victim)
        except Rejected as refused:
            self._say(f"the cheat was refused: {refused}")
            return False
        finally:
            await cheat.start()
        return is_revoked

    @staticmethod
    async def _state_of(daemon: Daemon, peer: Daemon) -> tuple[Channel, Transaction] | None:
        """Kill a node, and read what it could publish now in its channel with that peer."""
        await daemon.kill()
        return _commitment_of(daemon.directory, bytes.fromhex(peer.node_id))

    async def _pay_directly(self, payer: Daemon, payee: Daemon) -> None:
        with suppress(OSError, DaemonFailed):
            invoice = await payee.call(
                "invoice", amount_msat=5_000_000, label=f"{self._dice.random()}", description="before"
            )
            self._begun[invoice["payment_hash"]] = (payer, invoice["bolt11"])
            await payer.call("pay", bolt11=invoice["bolt11"], retry_for=5)

    async def _is_punished(self, channel: Channel, commitment: Transaction, victim: Daemon) -> bool:
        """Mine until the victim has taken all that was the cheat's; whether it has."""
        keys = (channel.charter.basepoints.local, channel.charter.basepoints.remote)
        anchors = [anchor_output(each.funding_pubkey) for each in keys]
        wanted = {
            commitment.outpoint(index)
            for index, output in enumerate(commitment.outputs)
            if output.script not in anchors
        }
        for _ in range(PUNISHED_BLOCKS):
            await self._chain.mine(1)
            await self._all_know()
            self._ledger.read()
            coins = {coin["txid"] for coin in (await victim.call("listfunds"))["outputs"]}
            spenders = self._ledger.spenders_of(commitment)
            if wanted <= {spent for spent, tx in spenders.items() if txid_hex(tx.txid) in coins}:
                return True
            await trio.sleep(0.1)
        return False

    # --- the end

    async def run(self) -> ChaosReport:
        """All of it; the report at the end."""
        self._say("building")
        await self.build()
        async with trio.open_nursery() as nursery:
            for _ in range(PAYERS):
                nursery.start_soon(self.pay_forever)
            await self.trouble(self._wish.minutes * 60)
            self._is_over = True
        self._say("settling")
        await self._settle()
        self._say("closing")
        await self._close()
        await self._state()
        return self.report

    async def _settle(self) -> None:
        """Connect everybody again, and wait until nothing is pending in a channel that is open."""
        await self._all_know()
        await self._rest()

    async def _rest(self) -> None:
        """Wait until nothing is pending; with blocks, for what a channel on the chain has to say first."""
        await self._reconnect()
        with trio.move_on_after(PATIENCE_SECONDS):
            while True:
                with trio.move_on_after(BLOCK_SECONDS):
                    await self._none_pending()
                    return
                await self._chain.mine(1)

    async def _reconnect(self) -> None:
        for one, other in self._neighbours():
            with suppress(DaemonFailed, OSError):
                await one.call("connect", id=other.node_id, host="127.0.0.1", port=other.port)

    async def _none_pending(self) -> None:
        """Wait until no HTLC is on its way in a channel that is open."""
        for daemon in self._daemons:
            await _until(daemon, "listpeerchannels", _has_no_htlc)

    async def _close(self) -> None:
        for daemon in self._daemons:
            for channel in (await daemon.call("listpeerchannels"))["channels"]:
                if channel["state"] == NORMAL and channel["opener"] == "local":
                    await daemon.call("close", id=channel["channel_id"], unilateraltimeout=20)
        for _ in range(LAST_BLOCKS // 10):
            await self._chain.mine(10)
            await self._all_know()
            channels = [
                channel
                for daemon in self._daemons
                for channel in (await daemon.call("listpeerchannels"))["channels"]
            ]
            if not channels:
                return

    async def _state(self) -> None:
        self._ledger.read()
        report = self.report
        self._ledger.state(report, self._funded)
        for daemon in self._daemons:
            for coin in (await daemon.call("listfunds"))["outputs"]:
                report.end_sat += coin["amount_msat"] // 1000
        for payment_hash, (payer, _) in self._begun.items():
            pays = (await payer.call("listpays", payment_hash=payment_hash))["pays"]
            status = pays[0]["status"] if pays else "failed"
            report.payments.sent += status == "complete"
            report.payments.failed += status == "failed"
            report.payments.stuck += status == "pending"
        left_sat = report.anchors_left_sat + report.dust_left_sat
        report.difference_sat = report.start_sat - report.end_sat - report.onchain_fees_sat - left_sat
        report.conserved = report.difference_sat == 0 and report.payments.stuck == 0


def _has_no_htlc(found: dict[str, Any]) -> bool:
    return not any(channel["htlcs"] for channel in found["channels"] if channel["state"] == NORMAL)


async def _until(daemon: Daemon, method: str, is_so: Callable[[dict[str, Any]], bool]) -> None:
    """Ask until the answer is as wished, through deaths of the node."""
    while True:
        try:
            if is_so(await daemon.call(method)):
                return
        except OSError:
            pass
        await trio.sleep(0.02)


def _commitment_of(directory: Path, peer_id: bytes) -> tuple[Channel, Transaction] | None:
    """The commitment that a stopped node could publish now in its channel with that peer."""
    store = Store(directory / "regtest" / "node.sqlite", SCHEMA)
    try:
        found = [channel for channel in store.channels() if channel.charter.peer_id == peer_id]
    finally:
        store.close()
    if not found or not found[0].is_usable:
        return None
    signer = Signer((directory / "regtest" / "seed").read_bytes())
    return found[0], our_commitment(found[0], signer.channel_secrets(found[0].charter.key_index))


async def run_chaos(wish: ChaosWish, say: Callable[[str], None]) -> ChaosReport:
    """Run the chaos that is wished for."""
    names = [f"node{number}" for number in range(wish.nodes)]
    async with running_daemons(names) as (chain, daemons):
        return await Chaos(wish, chain, daemons, say).run()
