"""The encrypted transport (BOLT 8): a handshake of three acts, then framed messages.

Pure: both ephemeral secrets are arguments, bytes go in and bytes come out, and the caller owns
the socket. A handshake that raises is over: its caller closes the connection and sends nothing.

`Transport` is on the path of every message, so it keeps one cipher object per key, opens all
that a read holds in one call, and copies a byte at most twice however the stream was cut. A
general Noise library was rejected: none speaks secp256k1, and only one pattern is ever used.
"""

import struct
from enum import Enum

from wire.crypto.aead import Aead, BadTag
from wire.crypto.hashes import hkdf_two, sha256
from wire.crypto.secp256k1 import InvalidPoint, Point, Secret, ecdh, is_point, point_of

PROTOCOL_NAME = b"Noise_XK_secp256k1_ChaChaPoly_SHA256"
PROLOGUE = b"lightning"
VERSION = b"\x00"

ACT_ONE_BYTES = 50
ACT_TWO_BYTES = 50
ACT_THREE_BYTES = 66

MAX_MESSAGE_BYTES = 65535
_TAG_BYTES = 16
_PREFIX_BYTES = 2 + _TAG_BYTES
# b8-transport.5: two nonces a message, so a key lasts for 500 messages
_NONCES_PER_KEY = 1000

_u16 = struct.Struct(">H").pack


class Flaw(Enum):
    """What can be wrong with an act of the handshake."""

    LENGTH = "has the wrong length"
    VERSION = "has an unknown version"
    POINT = "holds no point of the curve"
    TAG = "does not authenticate"


class HandshakeFailed(ValueError):
    """An act of the peer's is wrong; the connection is to be closed without another byte."""

    def __init__(self, act: int, why: Flaw) -> None:
        self.act, self.why = act, why
        super().__init__(f"act {act} {why.value}")


class BadFrame(ValueError):
    """A frame does not authenticate; the connection is to be closed.

    `messages` holds what was received intact before it in the same call, so that the outcome
    does not depend on how the network cut the stream.
    """

    def __init__(self, messages: tuple[bytes, ...] = ()) -> None:
        self.messages = messages
        super().__init__("a frame of the transport does not authenticate")


class OversizedMessage(ValueError):
    """A message of ours is longer than a frame can say."""

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"a message of {length} bytes exceeds {MAX_MESSAGE_BYTES}")


class SymmetricState:
    """What both sides agree on so far: the hash of all that was said, and the key it led to.

    Points are mixed in by whoever drives it, in the order of the acts.
    """

    __slots__ = ("chaining_key", "digest", "temporary_key")

    def __init__(self, responder: Point) -> None:
        self.chaining_key = sha256(PROTOCOL_NAME)
        self.digest = sha256(self.chaining_key, PROLOGUE)
        self.temporary_key = bytes(32)
        self.mix_hash(responder)

    def mix_hash(self, said: bytes) -> None:
        """Take what went over the wire into the digest."""
        self.digest = sha256(self.digest, said)

    def mix_key(self, shared_secret: bytes) -> None:
        """Take a shared secret into the chaining key; gives the key for the next ciphertext."""
        self.chaining_key, self.temporary_key = hkdf_two(self.chaining_key, shared_secret)

    def seal(self, counter: int, plaintext: bytes) -> bytes:
        """Encrypt under the temporary key, bound to and then mixed into the digest."""
        ciphertext = Aead(self.temporary_key).seal(counter, plaintext, self.digest)
        self.mix_hash(ciphertext)
        return ciphertext

    def open(self, counter: int, ciphertext: bytes) -> bytes:
        """Decrypt what `seal` made on the other side.

        Raises:
            BadTag: it does not authenticate against all that was said.
        """
        plaintext = Aead(self.temporary_key).open(counter, ciphertext, self.digest)
        self.mix_hash(ciphertext)
        return plaintext


class Initiator:
    """The side that connects, and so must know the other's point beforehand.

    `ephemeral_secret` must be fresh for each connection (b8-transport.3).

    Raises:
        InvalidSecret: one of our secrets is out of range.
    """

    def __init__(self, our_secret: Secret, their_point: Point, ephemeral_secret: Secret) -> None:
        self.state = SymmetricState(their_point)
        self._our_secret = our_secret
        self._our_point = point_of(our_secret)
        self._their_point = their_point
        self._ephemeral_secret = ephemeral_secret
        self._ephemeral_point = point_of(ephemeral_secret)

    def act_one(self) -> bytes:
        """The first 50 bytes to send.

        Raises:
            InvalidPoint: the point given for the peer is not on the curve.
        """
        self.state.mix_hash(self._ephemeral_point)
        self.state.mix_key(ecdh(self._ephemeral_secret, self._their_point))
        return VERSION + self._ephemeral_point + self.state.seal(0, b"")

    def receive_act_two(self, act: bytes) -> tuple[bytes, "Transport"]:
        """Our act three, 66 bytes, and the transport that may be used right after it.

        Raises:
            HandshakeFailed: the act is not that of the node we meant to reach.
        """
        their_ephemeral = _receive_ephemeral(self.state, 2, act, self._ephemeral_secret)
        sealed_point = self.state.seal(1, self._our_point)
        self.state.mix_key(ecdh(self._our_secret, their_ephemeral))
        act_three = VERSION + sealed_point + self.state.seal(0, b"")
        sending, receiving = hkdf_two(self.state.chaining_key, b"")
        return act_three, Transport(sending, receiving, self.state.chaining_key)


class Responder:
    """The side that was connected to; it learns the other's point in act three.

    `ephemeral_secret` must be fresh for each connection (b8-transport.3).

    Raises:
        InvalidSecret: one of our secrets is out of range.
    """

    def __init__(self, our_secret: Secret, ephemeral_secret: Secret) -> None:
        self.state = SymmetricState(point_of(our_secret))
        self._our_secret = our_secret
        self._ephemeral_secret = ephemeral_secret
        self._ephemeral_point = point_of(ephemeral_secret)

    def receive_act_one(self, act: bytes) -> bytes:
        """Our act two, 50 bytes.

        Raises:
            HandshakeFailed: the act is malformed, or made for another node.
        """
        their_ephemeral = _receive_ephemeral(self.state, 1, act, self._our_secret)
        self.state.mix_hash(self._ephemeral_point)
        self.state.mix_key(ecdh(self._ephemeral_secret, their_ephemeral))
        return VERSION + self._ephemeral_point + self.state.seal(0, b"")

    def receive_act_three(self, act: bytes) -> tuple[Point, "Transport"]:
        """Who connected, proven, and the transport with them.

        Raises:
            HandshakeFailed: the act is malformed or proves nothing.
        """
        _check_shape(3, act, ACT_THREE_BYTES)
        try:
            their_point = self.state.open(1, act[1:50])
            self.state.mix_key(ecdh(self._ephemeral_secret, their_point))
            self.state.open(0, act[50:])
        except BadTag:
            raise HandshakeFailed(3, Flaw.TAG) from None
        except InvalidPoint:
            raise HandshakeFailed(3, Flaw.POINT) from None
        receiving, sending = hkdf_two(self.state.chaining_key, b"")
        return their_point, Transport(sending, receiving, self.state.chaining_key)


def _check_shape(number: int, act: bytes, length: int) -> None:
    # b8-transport.2: the length and the version come before any cryptography
    if len(act) != length:
        raise HandshakeFailed(number, Flaw.LENGTH)
    if act[:1] != VERSION:
        raise HandshakeFailed(number, Flaw.VERSION)


def _receive_ephemeral(state: SymmetricState, number: int, act: bytes, secret: Secret) -> Point:
    """Acts one and two have one shape: an ephemeral point and a tag that proves its secret."""
    _check_shape(number, act, ACT_ONE_BYTES)
    ephemeral = act[1:34]
    if not is_point(ephemeral):
        raise HandshakeFailed(number, Flaw.POINT)
    state.mix_hash(ephemeral)
    state.mix_key(ecdh(secret, ephemeral))
    try:
        state.open(0, act[34:])
    except BadTag:
        raise HandshakeFailed(number, Flaw.TAG) from None
    return ephemeral


class Transport:
    """Both directions of a connection after the handshake.

    A frame is the encrypted length (18 bytes) and the encrypted message (16 more than its
    plaintext). Each direction counts its own nonces and rotates its own key (b8-transport.4,
    b8-transport.5).
    """

    __slots__ = (
        "_buffer",
        "_is_broken",
        "_needed",
        "_open",
        "_receiving_chain",
        "_receiving_counter",
        "_receiving_key",
        "_seal",
        "_sending_chain",
        "_sending_counter",
        "_sending_key",
    )

    def __init__(self, sending_key: bytes, receiving_key: bytes, chaining_key: bytes) -> None:
        self._sending_key, self._sending_chain = sending_key, chaining_key
        self._receiving_key, self._receiving_chain = receiving_key, chaining_key
        self._seal = Aead(sending_key).seal
        self._open = Aead(receiving_key).open
        self._sending_counter = self._receiving_counter = 0
        self._buffer = bytearray()
        self._needed = _PREFIX_BYTES
        self._is_broken = False

    def seal(self, message: bytes) -> bytes:
        """The frame of one message; frames must be sent in the order they were sealed.

        Raises:
            OversizedMessage: it is longer than 65535 bytes; nothing changed.
        """
        counter, seal = self._sending_counter, self._seal
        try:
            prefix = _u16(len(message))
        except struct.error:
            raise OversizedMessage(len(message)) from None
        frame = seal(counter, prefix) + seal(counter + 1, message)
        self._sending_counter = counter + 2
        if counter + 2 == _NONCES_PER_KEY:
            self._rotate_sending()
        return frame

    def feed(self, received: bytes | bytearray) -> list[bytes]:
        """The messages that these bytes complete, in order; the rest is kept for the next call.

        Raises:
            BadFrame: the stream was altered. It stays broken: every later call raises too.
        """
        if self._is_broken:
            raise BadFrame
        if self._buffer:
            self._buffer += received
            if len(self._buffer) < self._needed:
                return []
            received = self._buffer
        received = bytes(received)
        messages: list[bytes] = []
        try:
            end = self._open_frames(received, messages)
        except BadTag:
            self._is_broken = True
            raise BadFrame(tuple(messages)) from None
        self._buffer = bytearray(received[end:])
        return messages

    def _open_frames(self, received: bytes, messages: list[bytes]) -> int:
        """Append what is complete to `messages`; where the incomplete part begins."""
        start, end = 0, self._needed
        available, counter, open_ = len(received), self._receiving_counter, self._open
        while end <= available:
            plaintext = open_(counter, received[start:end])
            counter, start = counter + 1, end
            if counter & 1:
                end += (plaintext[0] << 8) + plaintext[1] + _TAG_BYTES
                continue
            messages.append(plaintext)
            end += _PREFIX_BYTES
            if counter == _NONCES_PER_KEY:
                self._rotate_receiving()
                counter, open_ = 0, self._open
        self._receiving_counter, self._needed = counter, end - start
        return start

    def _rotate_sending(self) -> None:
        self._sending_chain, self._sending_key = hkdf_two(self._sending_chain, self._sending_key)
        self._seal = Aead(self._sending_key).seal
        self._sending_counter = 0

    def _rotate_receiving(self) -> None:
        self._receiving_chain, self._receiving_key = hkdf_two(self._receiving_chain, self._receiving_key)
        self._open = Aead(self._receiving_key).open
        self._receiving_counter = 0
