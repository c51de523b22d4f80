"""All commands of a node in one table."""

from node.daemon.node import Node
from node.daemon.rpc import Commands
from node.daemon.rpc_channels import ChannelCommands
from node.daemon.rpc_feerates import FeerateCommands
from node.daemon.rpc_general import GeneralCommands, Identity
from node.daemon.rpc_payments import PaymentCommands
from node.daemon.rpc_wallet import WalletCommands


def commands_of(node: Node, identity: Identity, *more: object) -> tuple[Commands, GeneralCommands]:
    """The table, with more rooms of it, and the commands that know when the node shall end."""
    general = GeneralCommands(node, identity)
    rooms = (ChannelCommands(node), WalletCommands(node), FeerateCommands(node), PaymentCommands(node))
    general.commands = Commands(general, *rooms, *more)
    return general.commands, general
