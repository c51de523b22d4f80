"""The message that carries onions without payments (BOLT 4, onion messages)."""

from wire.codec import CountedBytes, Message, Point


class OnionMessage(Message, frozen=True):
    """`onion_message`: an onion packet and the key that opens the blinded hop."""

    TYPE = 513
    path_key: Point
    onion_message_packet: CountedBytes
