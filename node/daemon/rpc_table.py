"""All commands of a node in one table."""

from node.daemon.node import Node
from node.daemon.rpc import Commands
from node.daemon.rpc_addresses import AddressCommands
from node.daemon.rpc_backup import BackupCommands
from node.daemon.rpc_channels import ChannelCommands
from node.daemon.rpc_datastore import DatastoreCommands
from node.daemon.rpc_feerates import FeerateCommands
from node.daemon.rpc_forwards import ForwardCommands
from node.daemon.rpc_general import GeneralCommands, Identity
from node.daemon.rpc_invoices import InvoiceCommands
from node.daemon.rpc_opening import OpeningCommands
from node.daemon.rpc_payments import PaymentCommands
from node.daemon.rpc_peers import PeerCommands
from node.daemon.rpc_routes import RouteCommands
from node.daemon.rpc_runes import RuneCommands
from node.daemon.rpc_sendpay import SendpayCommands
from node.daemon.rpc_talk import TalkCommands
from node.daemon.rpc_tolls import TollCommands
from node.daemon.rpc_wallet import WalletCommands


def commands_of(node: Node, identity: Identity, *more: object) -> tuple[Commands, GeneralCommands]:
    """The table, with more rooms of it, and the commands that know when the node shall end."""
    general = GeneralCommands(node, identity)
    kinds = (
        PeerCommands,
        ChannelCommands,
        OpeningCommands,
        TollCommands,
        WalletCommands,
        AddressCommands,
        FeerateCommands,
        InvoiceCommands,
        PaymentCommands,
        SendpayCommands,
        RouteCommands,
        ForwardCommands,
        RuneCommands,
        DatastoreCommands,
        BackupCommands,
    )
    rooms = [kind(node) for kind in kinds]
    general.commands = Commands(general, *rooms, TalkCommands(node, identity), *more)
    return general.commands, general
