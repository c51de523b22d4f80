"""A node: its parts put together, and what its user may ask of it."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from gossip.graph import Graph
from htlc.channel import Channel, Phase
from htlc.dust import MOST_DUST_EXPOSURE_MSAT
from htlc.opening import MOST_HTLCS, House, Wish
from htlc.relay import Toll
from node.chain.hosts import resolvable
from node.chain.interface import Chain
from node.daemon.autoclean import USUAL_CYCLE_SECONDS, Autoclean
from node.daemon.backup import FILE_NAME as BACKUP_NAME
from node.daemon.backup import SCHEMA as BACKUP_SCHEMA
from node.daemon.backup import BackupFile
from node.daemon.closings import ClosingWish
from node.daemon.dialing import Proxy, open_stream
from node.daemon.establish import best_type
from node.daemon.fees import FeeKeeper
from node.daemon.gossiper import Gossiper
from node.daemon.hints import hints_in, route_hints
from node.daemon.invoice_text import bolt11_text
from node.daemon.invoices import (
    DEFAULT_EXPIRY_SECONDS,
    DEFAULT_FINAL_DELTA_BLOCKS,
    InvoiceRow,
    new_invoice,
)
from node.daemon.messenger import Messenger
from node.daemon.paying import Payer, Payment, Wanted
from node.daemon.payments import PaymentRow
from node.daemon.peer import CustomHandler, Peer, PeerGone, answer, call
from node.daemon.peer_storage import SCHEMA as STORAGE_SCHEMA
from node.daemon.peer_storage import PeerStorer
from node.daemon.reconnect import Address, Caller, Unreachable
from node.daemon.restoring import Restorer, take_up_file
from node.daemon.saboteur import Saboteur
from node.daemon.seed import seed_in
from node.daemon.signer import ForcedKeys, Signer
from node.daemon.store import Store
from node.daemon.switch import Switch
from node.daemon.wallet import SCHEMA as WALLET_SCHEMA
from node.daemon.wallet import Balance, Wallet
from node.daemon.watch import Watcher, broadcast_forever
from wire import bolt11, node_address
from wire.bitcoin.block import CHAIN_HASH
from wire.codec import Message
from wire.crypto.secp256k1 import Point
from wire.features import BASIC_MPP, OUR_INIT, Features
from wire.messages.base import Init, PeerStorage, PeerStorageRetrieval
from wire.messages.gossip import (
    AnnouncementSignatures,
    ChannelAnnouncement,
    ChannelUpdate,
    GossipTimestampFilter,
    NodeAnnouncement,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
)
from wire.messages.onion import OnionMessage
from wire.node_address import Dns, Ipv4, Ipv6, read_addresses
from wire.units import Msat, Sat

if TYPE_CHECKING:
    from node.daemon.offers import Offers
    from node.daemon.tower_client import TowerClient

log = logging.getLogger("rill.node")

DATABASE_NAME = "node.sqlite"
SCHEMAS = WALLET_SCHEMA + BACKUP_SCHEMA + STORAGE_SCHEMA
GOSSIP = (
    AnnouncementSignatures,
    ChannelAnnouncement,
    ChannelUpdate,
    NodeAnnouncement,
    GossipTimestampFilter,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
)


NOTHING_MSAT = Msat(0)
KEYSEND_FINAL_DELTA_BLOCKS = 40  # nobody told us the payee's, and implementations want up to 24


class NodeConfig(msgspec.Struct, frozen=True):
    """What makes this node different from another."""

    directory: Path
    seed: bytes | None = None  # None: the one in the directory, made at the first start
    alias: str = ""
    host: str = "127.0.0.1"
    port: int = 0  # 0: any that is free
    toll: Toll = Toll()
    minimum_depth_blocks: int = 3
    to_self_delay_blocks: int = 144
    gossip_flush_seconds: float = 0.0
    is_reconnecting: bool = True
    zeroconf_peers: frozenset[Point] = frozenset()  # whose channels are used before they are confirmed
    watchtowers: tuple[Address, ...] = ()
    features: Features = OUR_INIT
    most_dust_exposure_msat: Msat = MOST_DUST_EXPOSURE_MSAT
    upfront_shutdown_script: bytes = b""  # where every new channel's balance goes at its end
    rgb_color: bytes = b""  # empty: from its key
    more_hosts: tuple[tuple[str, int], ...] = ()  # where else to listen
    announced: tuple[str, ...] | None = None  # None: where it listens
    smallest_channel_sat: Sat = Sat(10_000)
    htlc_minimum_msat: Msat = Msat(1)
    max_accepted_htlcs: int = MOST_HTLCS
    final_delta_blocks: int = DEFAULT_FINAL_DELTA_BLOCKS
    cleaning_ages_seconds: dict[str, int] = {}  # by kind, what is forgotten so long after its end
    cleaning_cycle_seconds: int = USUAL_CYCLE_SECONDS
    emergency_sat: Sat = Sat(25_000)  # what `all` leaves in the wallet, to hurry channels with anchors
    proxy: Proxy | None = None
    fronting_nodes: tuple[Point, ...] = ()  # the peers that lead to us in offers, so that they do not name us
    may_call_for_invoices: bool = True
    forced_keys: ForcedKeys = ForcedKeys()
    sabotage: Path | None = None  # what a test of the protocol does to connections


class PortTaken(Exception):
    """The address to listen on cannot be had."""

    def __init__(self, host: str, port: int, why: str) -> None:
        self.host, self.port, self.why = host, port, why
        super().__init__(f"cannot listen on {host}:{port}: {why}")


class Node:
    """One Lightning node. Construct it, start `run` in a nursery, then ask."""

    def __init__(self, config: NodeConfig, chain: Chain, now: Callable[[], float] = time.time) -> None:
        """Open the node's database.

        Raises:
            DatabaseInUse, Damaged: it cannot be opened.
            SeedMissing: it is there, but not its seed.
            UnusableBackup: there is none, but a backup that it cannot begin again from.
            BadSabotage: what shall be done to connections cannot be read.
        """
        config.directory.mkdir(parents=True, exist_ok=True)
        self.config, self.chain, self._now = config, chain, now
        self._saboteur = None if config.sabotage is None else Saboteur(config.sabotage)
        self.signer = Signer(
            config.seed or seed_in(config.directory, DATABASE_NAME, BACKUP_NAME), config.forced_keys
        )
        self.store = Store(config.directory / DATABASE_NAME, SCHEMAS)
        chain_hash = CHAIN_HASH[chain.network]
        take_up_file(self.store, config.directory, self.signer.backup_key, chain_hash)
        self.wallet = Wallet(self.signer.wallet_seed, chain.network, self.signer.wallet_path)
        self.wallet.load(self.store.db)
        house = House(
            chain_hash,
            minimum_depth_blocks=config.minimum_depth_blocks,
            to_self_delay_blocks=config.to_self_delay_blocks,
            most_dust_exposure_msat=config.most_dust_exposure_msat,
            upfront_shutdown_script=config.upfront_shutdown_script,
            smallest_channel_sat=config.smallest_channel_sat,
            htlc_minimum_msat=config.htlc_minimum_msat,
            max_accepted_htlcs=config.max_accepted_htlcs,
            zeroconf_peers=config.zeroconf_peers,
        )
        self.switch = Switch(self.store, self.signer, self.wallet, house, config.toll, now)
        self.autoclean = Autoclean(self.switch, config.cleaning_ages_seconds, config.cleaning_cycle_seconds)
        self.watcher = Watcher(self.switch, chain)
        self.alias = config.alias or f"rill-{self.node_id.hex()[:12]}"
        self.gossiper = Gossiper(self.switch, chain, self.alias, config.gossip_flush_seconds, now)
        self.gossiper.rgb_color = config.rgb_color or self.node_id[1:4]
        self.watcher.on_block.append(self.gossiper.connect_block)
        self.watcher.on_undone.append(self.gossiper.disconnect_block)
        self.fee_keeper = FeeKeeper(self.switch, chain)
        self.watcher.on_block.append(self.fee_keeper.note_block)
        self.payer = Payer(self.switch, self.gossiper.graph, now)
        self.messenger = Messenger(self.switch)
        self.messenger.on_arrived.append(lambda arrived: self.offers.receive(arrived))
        self.caller = Caller(self.switch, self._call)
        self.backup = BackupFile(self.switch, config.directory, self.address_of)
        self.caller.on_moved.append(self.backup.touch)
        self.restorer = Restorer(self.switch, self.watcher, chain, self.caller, self.backup)
        self.storer = PeerStorer(self.switch, self.backup, self.restorer, config.features)
        self.watcher.on_block.append(self.storer.note_block)
        self._init = Init(features=config.features.to_bytes(), networks=(chain_hash,))
        self.tower_clients: list[TowerClient] = []
        if config.watchtowers:
            self._have_towers()
        self._custom: dict[int, CustomHandler] = {}
        self._nursery: trio.Nursery | None = None
        self.port = 0
        self.bindings: list[tuple[str, int]] = []

    def _have_towers(self) -> None:
        # few nodes have any, and no other pays for what speaks with them
        from node.daemon.tower_client import tower_clients

        self.tower_clients = tower_clients(self.switch, self.config.watchtowers, self._init)
        for client in self.tower_clients:
            self.watcher.on_block.append(client.note_block)

    # --- running

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the node listens and knows its address.

        Raises:
            PortTaken: it cannot listen.
        """
        config = self.config
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                listeners = await self._listen()
                nursery.start_soon(self.switch.run)
                nursery.start_soon(self.watcher.run)
                nursery.start_soon(broadcast_forever, self.switch, self.chain)
                nursery.start_soon(self.gossiper.run)
                nursery.start_soon(self.fee_keeper.run)
                nursery.start_soon(self.switch.quiescence.run)
                nursery.start_soon(self.restorer.run)
                nursery.start_soon(self.storer.run)
                nursery.start_soon(self.switch.gathering.run)
                nursery.start_soon(self.autoclean.run)
                for client in self.tower_clients:
                    nursery.start_soon(client.run)
                nursery.start_soon(trio.serve_listeners, self._serve, listeners)
                for transaction in self.store.waiting_broadcasts():
                    self.switch.to_broadcast.append((transaction,))
                for node_id in self.caller.everyone() if config.is_reconnecting else ():
                    nursery.start_soon(self.caller.call_again, node_id)
                task_status.started()
        finally:
            self.store.close()

    async def _listen(self) -> list[trio.SocketListener]:
        config = self.config
        listeners: list[trio.SocketListener] = []
        for host, port in ((config.host, config.port), *config.more_hosts):
            try:
                listeners += await trio.open_tcp_listeners(port, host=resolvable(host))
            except OSError as error:
                raise PortTaken(host, port, error.strerror or str(error)) from None
        self.port = listeners[0].socket.getsockname()[1]
        self.bindings = [listener.socket.getsockname()[:2] for listener in listeners]
        ours = (f"{config.host}:{self.port}",) if config.announced is None else config.announced
        self.gossiper.addresses = tuple([node_address.parse(text) for text in ours])
        return listeners

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            peer = await answer(stream, self.signer, self._init, self._saboteur)
        except PeerGone as gone:
            log.info("a caller failed to connect", extra={"why": gone.why})
            return
        peer.address = stream.socket.getpeername()[:2]
        await self._keep(peer)

    async def _keep(self, peer: Peer, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve a connection from its init to its end."""
        stays = self.switch.add_peer(peer)
        task_status.started()
        if not stays:
            await peer.hang_up()
            return
        self.storer.peer_up(peer)
        self.gossiper.peer_up(peer)
        try:
            await peer.run(self._on_message, self._custom)
            # error-warning.1: what it said last counts, though it hung up right behind it
            await self.switch.ask(lambda _: None)
        finally:
            self.switch.drop_peer(peer)
            self.gossiper.peer_down(peer)
            # of two connections to a peer that goes which nobody needs
            level = logging.DEBUG if peer.node_id in self.switch.peers else logging.INFO
            log.log(level, "a peer is gone", extra={"peer": peer.node_id.hex(), "why": peer.gone_because})
            if self._nursery is not None and self.config.is_reconnecting and not peer.was_dismissed:
                self._nursery.start_soon(self.caller.call_again, peer.node_id)

    def _on_message(self, peer: Peer, message: Message, raw: bytes) -> Awaitable[None] | None:
        if isinstance(message, GOSSIP):
            self.gossiper.receive(peer, message, raw)
            return None
        if isinstance(message, OnionMessage):
            self.messenger.receive(peer, message)
            return None
        if isinstance(message, PeerStorage | PeerStorageRetrieval):
            return self.storer.receive(peer, message)
        self.switch.deliver(peer, message)
        return self.switch.wait_for_room() if self.switch.is_full else None

    # --- peers

    @property
    def node_id(self) -> Point:
        """Our public key, 33 bytes."""
        return self.signer.node_id

    @property
    def graph(self) -> Graph:
        """The network as we know it."""
        return self.gossiper.graph

    @cached_property
    def offers(self) -> "Offers":
        """Our offers, and those of others; only a node that runs has them."""
        from node.daemon.offers import Offers

        assert self._nursery is not None, "the node runs"
        return Offers(self, self._nursery)

    def address_of(self, node_id: bytes) -> tuple[str, int] | None:
        """Where a node was reached before, or says that it is."""
        known = self.caller.address_of(Point(node_id))
        if known is not None:
            return known.host, known.port
        announced = self.graph.nodes.get(Point(node_id))
        for address in read_addresses(announced.addresses) if announced is not None else ():
            if isinstance(address, Ipv4 | Ipv6 | Dns):
                return str(address.host), address.port
        return None

    async def connect(self, node_id: Point, host: str, port: int) -> None:
        """Be connected to a peer.

        Raises:
            Unreachable: nobody listens there.
            PeerGone: somebody does, but not a node that we can speak with.
        """
        if node_id not in self.switch.peers:
            await self._call(Address(node_id, host, port))

    async def _call(self, address: Address) -> None:
        assert self._nursery is not None, "the node runs"
        host, port = address.host, address.port
        try:
            stream = await open_stream(host, port, self.config.proxy)
        except OSError as error:
            raise Unreachable(host, port, error.strerror or str(error)) from None
        peer = await call(stream, self.signer, address.node_id, self._init, self._saboteur)
        peer.address = host, port
        await self._nursery.start(self._keep, peer)
        await self.caller.remember(address)

    async def disconnect(self, node_id: Point) -> None:
        """Close the connection to a peer, if there is one."""
        peer = self.switch.peers.get(node_id)
        if peer is not None:
            peer.was_dismissed = True
            peer.close("our user wished it")

    def peer(self, node_id: Point) -> Peer:
        """The connection to a node.

        Raises:
            PeerGone: there is none.
        """
        peer = self.switch.peers.get(node_id)
        if peer is None:
            raise PeerGone(node_id, "there is no connection")
        return peer

    def on_custom(self, type: int, handler: CustomHandler) -> None:
        """Take the messages of a custom number: `handler(peer_id, payload)`, one after another."""
        self._custom[type] = handler

    async def hear_custom(self, type: int, peer_id: Point, payload: bytes) -> None:
        """Give whoever takes the messages of a custom number another one."""
        await self._custom[type](peer_id, payload)

    async def send_custom(self, peer_id: Point, type: int, payload: bytes) -> None:
        """Send a message of a custom number; waits while much is unsent.

        Raises:
            PeerGone: there is no connection to the peer.
        """
        await self.peer(peer_id).send_bulk(type.to_bytes(2, "big") + payload)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes with the node's key."""
        return self.signer.sign_digest(digest)

    # --- channels

    def channels(self) -> list[Channel]:
        """All channels, also those that are closed."""
        return list(self.switch.channels.values())

    async def open_channel(
        self,
        peer_id: Point,
        capacity_sat: Sat,
        push_msat: Msat = NOTHING_MSAT,
        *,
        is_announced: bool = True,
        channel_type: bytes | None = None,
        feerate_per_kw: int | None = None,
    ) -> Channel:
        """Open a channel; returns when its funding transaction is on its way.

        Without a type it gets anchors if the peer has them, and a private channel keeps its place secret.

        Raises:
            PeerGone, OpeningFailed, UnacceptableOpening, InsufficientFunds: it was not opened.
        """
        rate = feerate_per_kw or await self.chain.feerate_per_kw(6)
        peer = self.peer(peer_id)
        if channel_type is None:
            channel_type = best_type(peer, is_announced=is_announced)
        wish = Wish(capacity_sat, push_msat, rate, channel_type, is_announced)
        return await self.switch.establishment.open(peer, wish, rate)

    async def close_channel(
        self, channel_id: bytes, script: bytes = b"", feerate_per_kw: int | None = None
    ) -> None:
        """Begin to close a channel together with its peer; our balance goes to `script`, or the wallet.

        While the end waits for a block this may be asked again, for a higher fee or to another script,
        if the peer has option_simple_close.

        Raises:
            ChannelError: there is no channel of that id, or it cannot be closed so now.
        """
        await self.switch.close_channel(channel_id, ClosingWish(script, feerate_per_kw))

    async def force_close(self, channel_id: bytes) -> None:
        """Close a channel alone, with our latest commitment; our balance comes after its delay.

        Raises:
            ChannelError: there is no channel of that id that we can close alone.
        """
        await self.switch.force_close(channel_id)

    async def wait_for_channels(self, is_so: Callable[[list[Channel]], bool]) -> None:
        """Return once all our channels together look as wished."""
        done = trio.Event()

        def look(_: list[Channel]) -> None:
            if is_so(self.channels()):
                done.set()

        self.switch.on_channels_changed.append(look)
        try:
            look([])
            await done.wait()
        finally:
            self.switch.on_channels_changed.remove(look)

    @property
    def balance_sat(self) -> Balance:
        """What the wallet holds on chain."""
        return self.wallet.balance_sat()

    @property
    def spendable_msat(self) -> Msat:
        """The most that one HTLC of ours can carry now."""
        return max(self.payer.spendable().values(), default=Msat(0))

    @property
    def channel_balance_msat(self) -> Msat:
        """What is ours in all channels that are not closed."""
        open_channels = (c for c in self.switch.channels.values() if c.phase is not Phase.CLOSED)
        return Msat(sum(channel.settled_msat.local for channel in open_channels))

    async def new_script(self) -> bytes:
        """A fresh script of the wallet, to be paid at."""
        return await self.switch.ask(self.switch.new_script)

    # --- payments

    async def add_invoice(
        self,
        amount_msat: Msat | None,
        description: str = "",
        *,
        preimage: bytes | None = None,
        expiry_seconds: int = DEFAULT_EXPIRY_SECONDS,
        min_final_cltv_expiry_delta: int | None = None,
    ) -> InvoiceRow:
        """Be ready to be paid; durable when it returns.

        Raises:
            InvoiceExists: the preimage was used before.
        """
        row = new_invoice(
            preimage or secrets.token_bytes(32),
            secrets.token_bytes(32),
            amount_msat,
            description,
            self._now(),
            expiry_seconds,
            min_final_cltv_expiry_delta or self.config.final_delta_blocks,
        )
        hints = route_hints(self.switch, self.graph, amount_msat)
        row = msgspec.structs.replace(row, route_hints=hints) if hints else row
        return await self.switch.ask(lambda turn: self.switch.invoices.add(turn, row))

    def bolt11(self, row: InvoiceRow) -> str:
        """The invoice as a string that any wallet reads (BOLT 11)."""
        return bolt11_text(row, self.chain.network, self.signer)

    def on_settled(self, callback: Callable[[bytes, Msat], None]) -> None:
        """Call back with hash and amount whenever a payment to us is durable."""
        self.switch.invoices.on_settled.append(
            lambda row: callback(row.payment_hash, row.received_msat or Msat(0))
        )

    async def pay(
        self,
        payee: Point,
        payment_hash: bytes,
        payment_secret: bytes,
        amount_msat: Msat,
        *,
        final_cltv_expiry_delta: int = DEFAULT_FINAL_DELTA_BLOCKS,
        max_fee_msat: Msat | None = None,
        payment_metadata: bytes | None = None,
        may_split: bool = False,
    ) -> Payment:
        """Pay somebody who is ready for it, in parts if he takes them.

        Raises:
            PaymentFailed, AlreadyPaid: nothing more was paid.
        """
        return await self.payer.pay(
            Wanted(
                payee,
                payment_hash,
                amount_msat,
                payment_secret=payment_secret,
                payment_metadata=payment_metadata,
                final_cltv_expiry_delta=final_cltv_expiry_delta,
                max_fee_msat=max_fee_msat,
                may_split=may_split,
            )
        )

    def payment(self, payment_hash: bytes) -> PaymentRow | None:
        """What has come of a payment of ours, if there was one of this hash."""
        return self.switch.payments.rows.get(payment_hash)

    async def pay_invoice(self, text: str, max_fee_msat: Msat | None = None) -> Payment:
        """Pay a BOLT 11 invoice with an amount.

        Raises:
            InvalidInvoice: it cannot be read.
            PaymentFailed, AlreadyPaid: nothing more was paid.
        """
        invoice = bolt11.decode(text)
        if invoice.amount_msat is None:
            raise bolt11.InvalidInvoice("the invoice names no amount")
        return await self.payer.pay(
            Wanted(
                invoice.payee,
                invoice.payment_hash,
                invoice.amount_msat,
                payment_secret=invoice.payment_secret,
                payment_metadata=invoice.payment_metadata,
                final_cltv_expiry_delta=invoice.min_final_cltv_expiry_delta,
                max_fee_msat=max_fee_msat,
                # b11-invoices.5
                may_split=invoice.features.has(BASIC_MPP),
                hints=hints_in(invoice),
            )
        )

    async def keysend(self, payee: Point, amount_msat: Msat, max_fee_msat: Msat | None = None) -> Payment:
        """Pay somebody who does not know of it: the preimage travels in the onion.

        Raises:
            PaymentFailed: nothing was paid.
        """
        preimage = secrets.token_bytes(32)
        row = new_invoice(preimage, b"", amount_msat, "", 0)
        wanted = Wanted(
            payee,
            row.payment_hash,
            amount_msat,
            keysend_preimage=preimage,
            final_cltv_expiry_delta=KEYSEND_FINAL_DELTA_BLOCKS,
            max_fee_msat=max_fee_msat,
        )
        return await self.payer.pay(wanted)
