"""The stream's part of a node's commands."""

from node.daemon.rpc import Room, class_at
from node.stream.opening import LaterStream

ROOMS = {
    "node.stream.rpc_selling:SellingCommands": "share listshares unshare opendoor closedoor listsales",
    "node.stream.rpc_buying:BuyingCommands": "catalogue fetch watch listtitles waittitle pausetitle "
    "resumetitle closetitle",
    "node.stream.rpc_meter:MeterCommands": "meterserve meterwithdraw meterusages meteruse meterbuy "
    "waitmeter meterstop",
}


def rooms_of(later: LaterStream) -> list[Room]:
    """The rooms whose methods are commands; the first of them that is called starts the stream."""
    return [_room(place, names, later) for place, names in ROOMS.items()]


def _room(place: str, names: str, later: LaterStream) -> Room:
    async def enter() -> object:
        stream = await later.stream()
        return class_at(place)(stream)

    return Room(tuple(names.split()), enter)
