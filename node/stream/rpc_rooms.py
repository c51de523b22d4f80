"""The stream's part of a node's commands."""

from node.stream.rpc_buying import BuyingCommands
from node.stream.rpc_meter import MeterCommands
from node.stream.rpc_selling import SellingCommands
from node.stream.service import Stream


def rooms_of(stream: Stream) -> tuple[object, ...]:
    """The rooms whose methods are commands."""
    return SellingCommands(stream), BuyingCommands(stream), MeterCommands(stream)
