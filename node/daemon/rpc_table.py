"""All commands of a node in one table."""

from node.daemon.node import Node
from node.daemon.rpc import Commands
from node.daemon.rpc_channels import ChannelCommands
from node.daemon.rpc_general import GeneralCommands, Identity
from node.daemon.rpc_payments import PaymentCommands


def commands_of(node: Node, identity: Identity) -> tuple[Commands, GeneralCommands]:
    """The table, and the commands among them that know when the node shall end."""
    general = GeneralCommands(node, identity)
    general.commands = Commands(general, ChannelCommands(node), PaymentCommands(node))
    return general.commands, general
