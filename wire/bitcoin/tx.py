"""Transactions as Bitcoin serialises them (BIP 144): a value, its read and its write.

Hashes are kept in the order SHA-256 produces them, which is also how Lightning sends a
`funding_txid`; only `txid_hex` turns one around for people. A hostile length costs at most the
bytes that were sent: nothing is allocated by a count alone.
"""

import struct
from functools import cached_property

import msgspec

from wire.crypto.hashes import sha256d
from wire.units import Sat

FINAL_SEQUENCE = 0xFFFFFFFF
REPLACEABLE_SEQUENCE = 0xFFFFFFFD

_NO_BYTES = b""
_u16, _u32, _u64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


class MalformedTransaction(ValueError):
    """The bytes are no transaction (or no block of them), or not in the one canonical form."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"malformed transaction at byte {offset}: {why}")
        self.offset = offset
        self.why = why


def txid_hex(txid: bytes) -> str:
    """The hash as explorers and JSON-RPC show it: reversed."""
    return txid[::-1].hex()


def txid_of_hex(shown: str) -> bytes:
    """The 32 bytes of a hash that was shown reversed."""
    return bytes.fromhex(shown)[::-1]


def compact_size(count: int) -> bytes:
    """Bitcoin's variable-length count: little-endian, unlike Lightning's BigSize."""
    if count < 0xFD:
        return bytes((count,))
    if count <= 0xFFFF:
        return b"\xfd" + _u16.pack(count)
    if count <= 0xFFFFFFFF:
        return b"\xfe" + _u32.pack(count)
    return b"\xff" + _u64.pack(count)


def sized(content: bytes) -> bytes:
    """The bytes after their compact size."""
    return compact_size(len(content)) + content


class OutPoint(msgspec.Struct, frozen=True, gc=False, order=True):
    """An output of a transaction. `txid` is in hash order."""

    txid: bytes
    index: int

    def serialize(self) -> bytes:
        return self.txid + _u32.pack(self.index)

    def __str__(self) -> str:
        return f"{txid_hex(self.txid)}:{self.index}"


class TxIn(msgspec.Struct, frozen=True, gc=False):
    """What an input spends, and the witness that allows it."""

    outpoint: OutPoint
    sequence: int = REPLACEABLE_SEQUENCE
    witness: tuple[bytes, ...] = ()
    script_sig: bytes = _NO_BYTES

    def serialize_stripped(self) -> bytes:
        return self.outpoint.serialize() + sized(self.script_sig) + _u32.pack(self.sequence)

    def serialize_witness(self) -> bytes:
        return compact_size(len(self.witness)) + _NO_BYTES.join(map(sized, self.witness))


class TxOut(msgspec.Struct, frozen=True, gc=False):
    """An amount and the script that guards it."""

    value_sat: Sat
    script: bytes

    def serialize(self) -> bytes:
        return _u64.pack(self.value_sat) + sized(self.script)


class Transaction(msgspec.Struct, frozen=True, dict=True):
    """A Bitcoin transaction. Its hash is computed once, when first asked for."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int = 0

    @property
    def has_witness(self) -> bool:
        return any(txin.witness for txin in self.inputs)

    def _inputs_and_outputs(self) -> bytes:
        inputs = [txin.serialize_stripped() for txin in self.inputs]
        outputs = [txout.serialize() for txout in self.outputs]
        return _NO_BYTES.join((compact_size(len(inputs)), *inputs, compact_size(len(outputs)), *outputs))

    def serialize_stripped(self) -> bytes:
        """The form without witnesses, which the txid hashes."""
        return _u32.pack(self.version) + self._inputs_and_outputs() + _u32.pack(self.locktime)

    def serialize(self) -> bytes:
        """The form that travels: with witnesses if there are any."""
        if not self.has_witness:
            return self.serialize_stripped()
        witnesses = _NO_BYTES.join([txin.serialize_witness() for txin in self.inputs])
        head = _u32.pack(self.version) + b"\x00\x01"
        return head + self._inputs_and_outputs() + witnesses + _u32.pack(self.locktime)

    @cached_property
    def txid(self) -> bytes:
        """The hash without witnesses, in hash order."""
        return sha256d(self.serialize_stripped())

    @property
    def wtxid(self) -> bytes:
        """The hash with witnesses, in hash order."""
        return sha256d(self.serialize())

    @property
    def weight(self) -> int:
        """Weight units (BIP 141): a witness byte counts once, any other four times."""
        return 3 * len(self.serialize_stripped()) + len(self.serialize())

    @property
    def vsize(self) -> int:
        """Virtual bytes: a quarter of the weight, rounded up."""
        return (self.weight + 3) // 4

    def outpoint(self, index: int) -> OutPoint:
        """The name of one of our outputs."""
        return OutPoint(self.txid, index)

    def with_witness(self, index: int, witness: tuple[bytes, ...]) -> "Transaction":
        """The same transaction, with this witness on one input."""
        old = self.inputs[index]
        signed = TxIn(old.outpoint, old.sequence, witness, old.script_sig)
        inputs = (*self.inputs[:index], signed, *self.inputs[index + 1 :])
        return Transaction(self.version, inputs, self.outputs, self.locktime)


class Reader:
    """A position in bytes that a stranger may have written."""

    __slots__ = ("offset", "raw")

    def __init__(self, raw: bytes, offset: int = 0) -> None:
        self.raw = raw
        self.offset = offset

    def refuse(self, why: str) -> MalformedTransaction:
        return MalformedTransaction(self.offset, why)

    def take(self, count: int) -> bytes:
        end = self.offset + count
        if end > len(self.raw):
            raise self.refuse("ends too early")
        taken = self.raw[self.offset : end]
        self.offset = end
        return taken

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def compact_size(self) -> int:
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        width = 1 << first - 0xFC
        count = int.from_bytes(self.take(width), "little")
        if count < (0xFD if width == 2 else 1 << 4 * width):
            raise self.refuse("a length is not in its shortest form")
        return count

    def sized(self) -> bytes:
        return self.take(self.compact_size())

    def finish(self) -> None:
        if self.offset != len(self.raw):
            raise self.refuse("bytes are left over")


def _read_input(reader: Reader) -> TxIn:
    outpoint = OutPoint(reader.take(32), reader.u32())
    script_sig = reader.sized()
    return TxIn(outpoint, reader.u32(), (), script_sig)


def _read_output(reader: Reader) -> TxOut:
    return TxOut(Sat(reader.u64()), reader.sized())


def _read_witness(reader: Reader, txin: TxIn) -> TxIn:
    witness = tuple([reader.sized() for _ in range(reader.compact_size())])
    return TxIn(txin.outpoint, txin.sequence, witness, txin.script_sig)


def read_transaction(reader: Reader) -> Transaction:
    """The transaction at the reader's position, which moves past it.

    Raises:
        MalformedTransaction: it ends too early, has no inputs, or is not canonical.
    """
    version, count, is_segwit = reader.u32(), reader.compact_size(), False
    if count == 0:
        if reader.take(1) != b"\x01":
            raise reader.refuse("no inputs, or an unknown flag")
        is_segwit, count = True, reader.compact_size()
    inputs = [_read_input(reader) for _ in range(count)]
    outputs = tuple([_read_output(reader) for _ in range(reader.compact_size())])
    if is_segwit:
        inputs = [_read_witness(reader, txin) for txin in inputs]
        if not any(txin.witness for txin in inputs):
            raise reader.refuse("flagged as having witnesses, but all are empty")
    if not inputs:
        raise reader.refuse("no inputs")
    return Transaction(version, tuple(inputs), outputs, reader.u32())


def parse_transaction(raw: bytes | memoryview) -> Transaction:
    """The transaction that these bytes are, all of them.

    Raises:
        MalformedTransaction: they are something else.
    """
    reader = Reader(bytes(raw))
    transaction = read_transaction(reader)
    reader.finish()
    return transaction
