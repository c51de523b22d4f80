"""Two parties of one channel, each with a wallet, on a chain whose every rule is Bitcoin Core's.

What a party publishes goes through the embedded chain's mempool and, where one is installed,
through a bitcoind beside it, which must say the same. The parties are the shell's own resolver on
a database in memory; only the owner loop around it is played here.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec

from htlc.channel import Channel
from htlc.keys import ChannelSecrets
from htlc.ladder import Fulfilled, Htlc, Outcome
from htlc.market import Market
from htlc.opening import House
from htlc.resolution import Resolution
from htlc.resolution_claims import our_commitment
from node.chain.embedded import EmbeddedChain
from node.chain.interface import BlockConnected, BlockDisconnected, Rejected
from node.daemon.resolver import Resolver
from node.daemon.store import Store
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from node.daemon.wallet import SCHEMA as WALLET_SCHEMA
from node.daemon.wallet import Wallet
from tests.htlc.parties import ANCHORS, HOUSE, Party, drain, opened_channel, preimage_of, secrets_of
from tests.node.relay_ground import Bitcoind, RpcError
from wire.bitcoin.script import funding_script, p2wsh
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.crypto.hashes import sha256
from wire.units import Sat

COINS_SAT = (2_000_000,) * 8
MARKET = Market(soon_per_kw=2000, later_per_kw=500)


class _Signer:
    def __init__(self, secrets: ChannelSecrets) -> None:
        self.secrets = secrets

    def channel_secrets(self, key_index: int) -> ChannelSecrets:
        return self.secrets


class _Switch:
    """What the resolver sees of the owner loop."""

    def __init__(self, player: "Player") -> None:
        self.store, self.wallet = player.store, player.wallet
        self.signer, self.live, self.height = _Signer(player.party.secrets), set[bytes](), 0

    def new_script(self, turn: "_Turn") -> bytes:
        return self.wallet.new_script()


class _Turn:
    """What the resolver sees of one turn."""

    def __init__(self, player: "Player") -> None:
        self.player = player
        self.writes_once: dict[bytes, Callable[[], None]] = {}
        self.published: list[tuple[Transaction, ...]] = []

    def channel(self, channel_id: bytes) -> Channel | None:
        return self.player.channel if channel_id == self.player.channel.id else None

    def all_channels(self) -> list[Channel]:
        return [self.player.channel]

    def past_htlcs(self, channel_id: bytes, remote_number: int) -> list[Htlc]:
        return self.player.store.past_htlcs(channel_id, remote_number)

    def put(self, channel: Channel) -> None:
        self.player.party.channel = channel

    def publish(self, *transactions: Transaction) -> None:
        self.published.append(transactions)

    def settle_outgoing(self, channel_id: bytes, htlc: Htlc) -> None:
        self.player.settled[htlc.id] = htlc.outcome

    def lapse(self, channel_id: bytes, htlc: Htlc) -> None:
        self.player.settled[htlc.id] = None

    def fail_channel(self, channel: Channel, why: str) -> None:
        self.player.failed_for.append(why)

    def fail_back(self, channel_id: bytes, htlc: Htlc) -> None:
        self.player.failed_back.append(htlc.id)

    def finish(self) -> None:
        with self.player.store.transaction():
            for write in self.writes_once.values():
                write()
            self.player.wallet.save(self.player.store.db)
        for transactions in self.published:
            self.player.give(transactions)


class Player:
    """One side: its part of the channel, its wallet, and its node as far as the chain goes."""

    def __init__(self, stage: "Stage", party: Party) -> None:
        self.stage, self.party = stage, party
        self.store = Store(Path(":memory:"), WALLET_SCHEMA)
        self.wallet = Wallet(sha256(party.name.encode()) * 2, "regtest")
        self.settled: dict[int, Outcome | None] = {}
        self.published: dict[bytes, Transaction] = {}
        self.refused: list[tuple[Transaction, str]] = []
        self._last: Resolution | None = None
        self.failed_for: list[str] = []
        self.failed_back: list[int] = []
        self.is_away = False
        self.follower = stage.chain.follow(stage.height + 1)
        self.switch = _Switch(self)
        self.begin()

    def begin(self) -> None:
        """Be a node that has just started."""
        self.resolver = Resolver(cast(Switch, self.switch))
        self.resolver.market = MARKET

    @property
    def channel(self) -> Channel:
        return self.party.channel

    @property
    def resolution(self) -> Resolution:
        """Where the end of the channel stands, or stood before it was forgotten."""
        self._last = self.resolver.resolutions.get(self.channel.id, self._last)
        assert self._last is not None, "the channel is on its way to the chain"
        return self._last

    def give(self, transactions: tuple[Transaction, ...]) -> None:
        """Publish, as a node does: a refusal is noted and nothing more."""
        try:
            self.stage.submit(*transactions)
            self.published.update({transaction.txid: transaction for transaction in transactions})
        except Rejected as rejected:
            self.refused.append((transactions[-1], rejected.reason))

    def act(self, does: Callable[[Turn], None]) -> None:
        """One turn of the node."""
        turn = _Turn(self)
        does(cast(Turn, turn))
        turn.finish()
        self._last = self.resolver.resolutions.get(self.channel.id, self._last)

    def follow(self) -> None:
        """Read the chain to its tip."""
        while not self.is_away and (event := self.follower.step()) is not None:
            if isinstance(event, BlockConnected):
                self._connect(event)
            else:
                self._disconnect(event)

    def _connect(self, block: BlockConnected) -> None:
        self.switch.height = block.height
        self.wallet.apply_block(block.height, block.transactions)
        self.store.put_past(self.channel.id, self.party.gone)
        is_tip = block.height == self.stage.height
        self.act(lambda turn: self.resolver.connect(turn, block, is_tip=is_tip))

    def _disconnect(self, block: BlockDisconnected) -> None:
        self.switch.height = block.height - 1
        self.wallet.undo_block(block.height)
        self.act(lambda turn: self.resolver.disconnect(turn, block.height))

    def force_close(self) -> None:
        """Go to chain."""
        self.act(lambda turn: self.resolver.fail(turn, self.channel))

    def fulfill(self, htlc_id: int, number: int) -> None:
        """Learn the preimage of an HTLC that was received, after the peer can no longer be told."""
        self.party.remove(htlc_id, Fulfilled(preimage_of(number)))
        self.party.outbox.clear()
        self.act(lambda turn: self.resolver.pursue(turn, self.channel.id))

    def restart(self) -> None:
        """Lose the memory and come back from the database."""
        self.wallet = Wallet(sha256(self.party.name.encode()) * 2, "regtest")
        self.wallet.load(self.store.db)
        self.switch.wallet = self.wallet
        self.begin()
        self.act(lambda turn: self.resolver.pursue(turn, self.channel.id))

    @property
    def commitment(self) -> Transaction:
        """Our newest commitment, with both signatures."""
        return our_commitment(self.channel, self.party.secrets)

    @property
    def gained_sat(self) -> int:
        """What the wallet holds more, in blocks, than it began with."""
        return self.wallet.balance_sat().confirmed_sat - sum(COINS_SAT)

    @property
    def fees_sat(self) -> int:
        """What the transactions that it published, and that confirmed, have cost: but for commitments."""
        funding = self.channel.charter.funding_outpoint
        confirmed = [self.stage.mined[txid] for txid in self.published if txid in self.stage.mined]
        return sum(self.stage.fee_sat(tx) for tx in confirmed if tx.inputs[0].outpoint != funding)


class Stage:
    """The chain, and both players."""

    def __init__(self, chain: EmbeddedChain, bitcoind: Bitcoind | None) -> None:
        self.chain, self.bitcoind = chain, bitcoind
        self.mined: dict[bytes, Transaction] = {}
        self.values: dict[OutPoint, Sat] = {}
        self._told = chain.follow(chain.regtest.height + 1)
        if bitcoind is not None:
            for height in range(bitcoind.call("getblockcount") + 1, chain.regtest.height + 1):
                self._give_block(chain.regtest.block_hash(height) or b"")

    def open(
        self,
        channel_type: bytes = ANCHORS,
        capacity_sat: int = 10_000_000,
        push_sat: int = 5_000_000,
        feerate_per_kw: int = 1000,
        house_of_alice: House = HOUSE,
        house_of_bob: House = HOUSE,
    ) -> "Stage":
        """A channel whose funding output is on the chain, opened by Alice."""
        keys = [secrets_of(name).basepoints().funding_pubkey for name in ("alice", "bob")]
        outpoint = self.pay(TxOut(Sat(capacity_sat), p2wsh(funding_script(*keys))))[0]
        parties = opened_channel(
            capacity_sat,
            push_sat * 1000,
            channel_type,
            feerate_per_kw,
            house_of_alice,
            house_of_bob,
            funding_outpoint=outpoint,
        )
        self.alice, self.bob = (Player(self, party) for party in parties)
        self.players = (self.alice, self.bob)
        for player in self.players:
            self.pay(*[TxOut(Sat(value_sat), player.wallet.new_script()) for value_sat in COINS_SAT])
        self.follow()
        return self

    # --- the chain

    @property
    def height(self) -> int:
        return self.chain.regtest.height

    def pay(self, *outputs: TxOut) -> list[OutPoint]:
        """New confirmed outputs."""
        paid = self.chain.faucet.pay(outputs)
        self._mine()
        return paid

    def submit(self, *transactions: Transaction) -> None:
        """Let both mempools judge.

        Raises:
            Rejected: they refuse.
        """
        refusal = None
        try:
            self.chain.regtest.submit(*transactions)
        except Rejected as rejected:
            refusal = rejected
        if self.bitcoind is not None:
            self._agree(transactions, refusal)
        if refusal is not None:
            raise refusal

    def _agree(self, transactions: Sequence[Transaction], refusal: Rejected | None) -> None:
        raw = [transaction.serialize().hex() for transaction in transactions]
        why = self._why_not(raw[0])
        if len(raw) > 1:
            # as a node asks: together only where the parent is refused alone
            why = self._why_not(raw[1]) if why is None else self._why_not_together(raw)
        assert (why is None) == (refusal is None), f"bitcoind says {why}, the embedded chain {refusal}"

    def _why_not(self, raw: str) -> str | None:
        """Why bitcoind refuses a transaction, unless it takes or has it."""
        assert self.bitcoind is not None
        try:
            self.bitcoind.call("sendrawtransaction", raw, 0)
        except RpcError as refused:
            return None if "already in" in refused.message else refused.message
        return None

    def _why_not_together(self, raw: Sequence[str]) -> str | None:
        assert self.bitcoind is not None
        try:
            verdict = self.bitcoind.call("submitpackage", raw, 0)["package_msg"]
        except RpcError as refused:
            verdict = refused.message
        return None if verdict == "success" else str(verdict)

    def mine(self, count: int = 1) -> None:
        """Mine blocks, each read by both before the next."""
        for _ in range(count):
            self._mine()
            self.follow()

    def _mine(self) -> None:
        self.chain.regtest.mine(1, self.chain.faucet.script)
        self._tell()

    def pass_over(self, count: int = 1) -> None:
        """Mine blocks that take nothing from the mempool."""
        for _ in range(count):
            self.mine_only()

    def mine_only(self, *transactions: Transaction) -> None:
        """Mine a block of just these, whatever else waits; what still can waits on."""
        waiting = self.chain.regtest.mempool.clear()
        self.chain.regtest.submit(*transactions)
        self.chain.regtest.mine(1, self.chain.faucet.script)
        for transaction in waiting:
            with suppress(Rejected):
                self.chain.regtest.submit(transaction)
        self._tell()
        self.follow()

    def reorganise(self, depth: int, confirm: Sequence[Transaction] | None = None) -> None:
        """Replace the last blocks by one more."""
        self.chain.regtest.reorganise(depth, self.chain.faucet.script, confirm)
        self._tell()
        self.follow()

    def _tell(self) -> None:
        """Note what blocks contain, and give them to bitcoind."""
        while (event := self._told.step()) is not None:
            if not isinstance(event, BlockConnected):
                block = self.chain.regtest.block(event.block_hash)
                for transaction in block.transactions:
                    self.mined.pop(transaction.txid, None)
                continue
            for transaction in event.transactions:
                self.mined[transaction.txid] = transaction
                for index, output in enumerate(transaction.outputs):
                    self.values[transaction.outpoint(index)] = output.value_sat
            self._give_block(event.block_hash)

    def _give_block(self, block_hash: bytes) -> None:
        if self.bitcoind is not None:
            raw = self.chain.regtest.block(block_hash).serialize().hex()
            answer = self.bitcoind.call("submitblock", raw)
            assert answer in (None, "inconclusive", "duplicate"), answer

    def follow(self) -> None:
        for player in self.players:
            player.follow()

    def fee_sat(self, transaction: Transaction) -> int:
        """What it pays."""
        spent_sat = sum(self._value_sat(txin.outpoint) for txin in transaction.inputs)
        return spent_sat - sum(output.value_sat for output in transaction.outputs)

    def _value_sat(self, outpoint: OutPoint) -> int:
        mempool = self.chain.regtest.mempool
        if outpoint.txid in mempool:
            return mempool[outpoint.txid].transaction.outputs[outpoint.index].value_sat
        return self.values[outpoint]

    # --- the channel

    def drain(self) -> None:
        drain(self.alice.party, self.bob.party)

    def pay_across(self, payer: Player, payee: Player, amount_msat: int, number: int) -> None:
        """A payment that is made and settled."""
        payer.party.offer(amount_msat, number, self.height + 40)
        self.drain()
        payee.party.remove(max(payee.channel.htlcs.remote), Fulfilled(preimage_of(number)))
        self.drain()

    def past(self, player: Player) -> Callable[[], None]:
        """Remember this state of a player; the result makes it the player's own again."""
        channel = player.channel

        def forget() -> None:
            player.party.channel = channel

        return forget

    def check_conserved(self) -> None:
        """What the channel held went to the two wallets and to fees, and nowhere else."""
        funding = self.alice.channel.charter.funding_outpoint
        spender = next(
            transaction
            for transaction in self.mined.values()
            if any(txin.outpoint == funding for txin in transaction.inputs)
        )
        fees_sat = sum(player.fees_sat for player in self.players) + self.fee_sat(spender)
        left_sat = sum(
            coin.value_sat
            for outpoint, coin in self.chain.regtest.coins
            if outpoint.txid == spender.txid or outpoint.txid in self._ours()
            if not any(player.wallet.is_ours(coin.script) for player in self.players)
        )
        gained_sat = sum(player.gained_sat for player in self.players)
        assert gained_sat + fees_sat + left_sat == self.values[funding]

    def _ours(self) -> set[bytes]:
        return {txid for player in self.players for txid in player.published}


def replaced(channel: Channel, **changes: object) -> Channel:
    return msgspec.structs.replace(channel, **changes)
