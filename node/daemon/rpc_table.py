"""All commands of a node in one table, each room of it by the module and the class that it is.

A node reads the module of a room when the first command of it is called.
"""

from node.daemon.node import Node
from node.daemon.rpc import Commands, Room, class_at
from node.daemon.rpc_general import GeneralCommands, Identity

ROOMS = {
    "node.daemon.rpc_peers:PeerCommands": "connect disconnect listpeers",
    "node.daemon.rpc_channels:ChannelCommands": "listpeerchannels close",
    "node.daemon.rpc_opening:OpeningCommands": "fundchannel multifundchannel",
    "node.daemon.rpc_tolls:TollCommands": "setchannel listclosedchannels",
    "node.daemon.rpc_wallet:WalletCommands": "listfunds listtransactions withdraw bumpfee",
    "node.daemon.rpc_psbt:PsbtCommands": "fundpsbt utxopsbt addpsbtoutput reserveinputs"
    " unreserveinputs signpsbt sendpsbt",
    "node.daemon.rpc_txprepare:TxprepareCommands": "multiwithdraw txprepare txsend txdiscard",
    "node.daemon.rpc_addresses:AddressCommands": "newaddr listaddresses listdescriptors",
    "node.daemon.rpc_feerates:FeerateCommands": "feerates parsefeerate",
    "node.daemon.rpc_invoices:InvoiceCommands": "invoice listinvoices delinvoice waitinvoice waitanyinvoice"
    " holdinvoice listholdinvoices settleholdinvoice cancelholdinvoice",
    "node.daemon.rpc_payments:PaymentCommands": "pay xpay keysend xkeysend listpays listsendpays"
    " delpay decode",
    "node.daemon.rpc_offers:OfferCommands": "offer listoffers disableoffer enableoffer fetchinvoice",
    "node.daemon.rpc_refunds:RefundCommands": "invoicerequest listinvoicerequests disableinvoicerequest"
    " sendinvoice",
    "node.daemon.rpc_sendpay:SendpayCommands": "sendpay sendonion createonion waitsendpay",
    "node.daemon.rpc_routes:RouteCommands": "getroute getroutes",
    "node.daemon.rpc_forwards:ForwardCommands": "listforwards delforward",
    "node.daemon.rpc_wait:WaitCommands": "wait",
    "node.daemon.rpc_htlcs:HtlcCommands": "listhtlcs",
    "node.daemon.rpc_log:LogCommands": "getlog",
    "node.daemon.rpc_runes:RuneCommands": "createrune checkrune showrunes blacklistrune",
    "node.daemon.rpc_datastore:DatastoreCommands": "datastore listdatastore deldatastore datastoreusage",
    "node.daemon.rpc_backup:BackupCommands": "staticbackup getemergencyrecoverdata recoverchannel"
    " emergencyrecover",
    "node.daemon.rpc_autoclean:AutocleanCommands": "autoclean_once autoclean_status",
}
OF_THE_IDENTITY = {
    "node.daemon.rpc_talk:TalkCommands": "ping sendcustommsg waitblockheight signmessage makesecret"
    " checkmessage listconfigs notifications plugin",
}


def commands_of(node: Node, identity: Identity, *more: object) -> tuple[Commands, GeneralCommands]:
    """The table, with more rooms of it, and the commands that know when the node shall end."""
    general = GeneralCommands(node, identity)
    rooms = [_room(place, names, node) for place, names in ROOMS.items()]
    rooms += [_room(place, names, node, identity) for place, names in OF_THE_IDENTITY.items()]
    general.commands = Commands(general, *rooms, *more)
    return general.commands, general


def _room(place: str, names: str, *of: object) -> Room:
    async def enter() -> object:
        return class_at(place)(*of)

    return Room(tuple(names.split()), enter)
