"""Chaos: real nodes as processes, under payments, killed, cut, reorganised and cheated on.

At the end everything is closed, and every satoshi is stated: what the wallets had at the start
is what they have now, plus the fees that miners got, plus the anchors that nobody took.
"""

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from htlc.channel import Channel
from htlc.ladder import LOCAL
from htlc.transactions import ANCHOR_SAT, anchor_output, funding_witness
from node.chain.embedded import EmbeddedChain
from node.chain.interface import BlockConnected, BlockDisconnected, Rejected
from node.daemon.signer import Signer
from node.daemon.store import Store
from node.daemon.wallet import SCHEMA
from node.lab.daemons import Daemon, DaemonFailed, running_daemons
from wire.bitcoin.address import script_of
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.crypto import secp256k1
from wire.units import Sat

FUNDS_SAT, CAPACITY_SAT = Sat(5_000_000), Sat(2_000_000)
AMOUNTS_MSAT = (1, 1000, 100_000, 400_000, 2_000_000, 20_000_000)
PAYERS = 4
NORMAL = "CHANNELD_NORMAL"
LAST_BLOCKS = 400
PATIENCE_SECONDS = 180.0


class ChaosWish(msgspec.Struct, frozen=True):
    """What kind of chaos."""

    seed: int = 1
    minutes: float = 1.0
    nodes: int = 4


class Payments(msgspec.Struct):
    """What became of the payments that were begun."""

    sent: int = 0
    failed: int = 0
    stuck: int = 0


class ChaosReport(msgspec.Struct):
    """The statement at the end."""

    seed: int
    payments: Payments
    kills: int = 0
    cuts: int = 0
    reorgs: int = 0
    breaches_punished: int = 0
    start_sat: int = 0
    end_sat: int = 0
    onchain_fees_sat: int = 0
    anchors_left_sat: int = 0
    conserved: bool = False
    difference_sat: int = 0


class Ledger:
    """What the chain alone tells since the nodes were funded: fees, and what is unspent."""

    def __init__(self, chain: EmbeddedChain, first_height: int) -> None:
        self._follower = chain.follow(first_height)
        self._blocks: list[tuple[Transaction, ...]] = []

    def read(self) -> None:
        """Take in all blocks that there are."""
        while (event := self._follower.step()) is not None:
            if isinstance(event, BlockConnected):
                self._blocks.append(event.transactions)
            elif isinstance(event, BlockDisconnected):
                self._blocks.pop()

    def transactions(self) -> Iterable[Transaction]:
        return (transaction for block in self._blocks for transaction in block[1:])

    def fees_sat(self, funded: dict[OutPoint, Sat]) -> tuple[int, dict[OutPoint, TxOut]]:
        """The fees of all that descends from the coins, and its unspent outputs."""
        unspent: dict[OutPoint, TxOut] = {}
        values: dict[OutPoint, int] = dict(funded)
        fees = 0
        for transaction in self.transactions():
            spends = [txin.outpoint for txin in transaction.inputs]
            if not all(outpoint in values for outpoint in spends):
                continue
            fees += sum(values[each] for each in spends) - sum(out.value_sat for out in transaction.outputs)
            for spent in spends:
                unspent.pop(spent, None)
            for index, output in enumerate(transaction.outputs):
                values[transaction.outpoint(index)] = output.value_sat
                unspent[transaction.outpoint(index)] = output
        return fees, unspent


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
        for transaction in self._ledger.transactions():
            for index, output in enumerate(transaction.outputs):
                if output.script in scripts:
                    self._funded[transaction.outpoint(index)] = output.value_sat
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
            await self._reconnect()
            with trio.move_on_after(PATIENCE_SECONDS):
                await self._none_pending()
                await self._publish_revoked()
        finally:
            self._may_pay.set()

    async def _publish_revoked(self) -> None:
        cheat, victim = self._dice.choice(self._neighbours())
        self._say(f"{cheat.name} cheats {victim.name}")
        await cheat.kill()
        old = _commitment_of(cheat.directory, bytes.fromhex(victim.node_id))
        await cheat.start()
        await self._reconnect()
        if old is None:
            return
        before, transaction = old
        for _ in range(3):
            await self._pay_directly(cheat, victim)
        await cheat.kill()
        now = _commitment_of(cheat.directory, bytes.fromhex(victim.node_id))
        is_revoked = now is not None and now[0].number.local > before.number.local
        if is_revoked:
            try:
                await self._chain.broadcast(transaction)
                self.report.breaches_punished += await self._is_punished(before, transaction)
            except Rejected as refused:
                self._say(f"the cheat was refused: {refused}")
        await cheat.start()

    async def _pay_directly(self, payer: Daemon, payee: Daemon) -> None:
        with suppress(OSError, DaemonFailed):
            invoice = await payee.call(
                "invoice", amount_msat=5_000_000, label=f"{self._dice.random()}", description="before"
            )
            self._begun[invoice["payment_hash"]] = (payer, invoice["bolt11"])
            await payer.call("pay", bolt11=invoice["bolt11"], retry_for=5)

    async def _is_punished(self, channel: Channel, commitment: Transaction) -> bool:
        """Mine until the victim has taken what was the cheat's; whether it has."""
        anchor = anchor_output(channel.charter.basepoints.remote.funding_pubkey)
        own = anchor_output(channel.charter.basepoints.local.funding_pubkey)
        for _ in range(20):
            await self._chain.mine(1)
            await self._all_know()
            self._ledger.read()
            spenders = [
                transaction
                for transaction in self._ledger.transactions()
                if any(txin.outpoint.txid == commitment.txid for txin in transaction.inputs)
            ]
            taken = {txin.outpoint for spender in spenders for txin in spender.inputs}
            wanted = {
                commitment.outpoint(index)
                for index, output in enumerate(commitment.outputs)
                if output.script not in (anchor, own)
            }
            if wanted <= taken:
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
        """Connect everybody again, and wait until nothing is pending."""
        await self._reconnect()
        await self._all_know()
        with trio.move_on_after(PATIENCE_SECONDS):
            await self._none_pending()
        for payment_hash, (payer, _) in self._begun.items():
            pays = (await payer.call("listpays", payment_hash=payment_hash))["pays"]
            status = pays[0]["status"] if pays else "failed"
            self.report.payments.sent += status == "complete"
            self.report.payments.failed += status == "failed"
            self.report.payments.stuck += status == "pending"

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
        report.onchain_fees_sat, unspent = self._ledger.fees_sat(self._funded)
        for daemon in self._daemons:
            for coin in (await daemon.call("listfunds"))["outputs"]:
                report.end_sat += coin["amount_msat"] // 1000
        # an anchor that nobody needed stays where it is
        report.anchors_left_sat = sum(
            output.value_sat
            for output in unspent.values()
            if output.value_sat == ANCHOR_SAT and len(output.script) == 34
        )
        accounted = report.end_sat + report.onchain_fees_sat + report.anchors_left_sat
        report.difference_sat = report.start_sat - accounted
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
    channel = found[0]
    signer = Signer((directory / "regtest" / "seed").read_bytes())
    secrets = signer.channel_secrets(channel.charter.key_index)
    commitment = channel.commitment(LOCAL, secrets.per_commitment_point(channel.number.local))
    basepoints = channel.charter.basepoints
    witness = funding_witness(
        channel.charter.funding_script,
        basepoints.local.funding_pubkey,
        secp256k1.sign(secrets.funding, commitment.sighash),
        basepoints.remote.funding_pubkey,
        channel.remote_signature,
    )
    return channel, commitment.tx.with_witness(0, witness)


async def run_chaos(wish: ChaosWish, say: Callable[[str], None]) -> ChaosReport:
    """Run the chaos that is wished for."""
    names = [f"node{number}" for number in range(wish.nodes)]
    async with running_daemons(names) as (chain, daemons):
        return await Chaos(wish, chain, daemons, say).run()
