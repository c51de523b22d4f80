"""What bitcoind relays of scripts beyond consensus: one encoding for each witness.

The kernel verifies consensus only. Relay policy also refuses a branch chosen by anything but an
empty item or a single 1, a number or push not in its shortest form, a signature with a high S or
an unknown type, an uncompressed key, and a failed check of a signature that is not empty. To see
those the script must be run, so this runs it: the opcodes of Lightning's scripts, of a script
that the kernel has already found valid. At any other opcode it stops, and finds nothing.
"""

from collections.abc import Callable, Iterator

from node.chain.policy import script_type
from wire.bitcoin import script as op
from wire.bitcoin.script import push, script_number
from wire.bitcoin.sighash import SIGHASH_ALL, SIGHASH_SINGLE, p2wpkh_script_code, segwit_v0_sighash
from wire.bitcoin.tx import Transaction, TxOut
from wire.crypto import secp256k1
from wire.crypto.hashes import ripemd160, sha256, sha256d

_NULLFAIL = "Signature must be zero for failed CHECK(MULTI)SIG operation"
_TRUE, _FALSE = b"\x01", b""
_ANYONE_CAN_PAY = 0x80
_OP_1NEGATE = 0x4F
_LAST_PUSH = 0x4E
_OP_NOP, _OP_VERIFY, _OP_2DROP, _OP_CHECKMULTISIGVERIFY = 0x61, 0x69, 0x6D, 0xAF
_OP_RIPEMD160, _OP_SHA256, _OP_HASH256 = 0xA6, 0xA8, 0xAA
_UPGRADABLE_NOPS = frozenset([0xB0, *range(0xB3, 0xBA)])


class Unrelayed(Exception):
    """Policy refuses what the script did."""


class _Unjudged(Exception):
    """An opcode that this does not know."""


def broken_rule(transaction: Transaction, index: int, spent: TxOut) -> str | None:
    """The rule of relay policy that a valid witness v0 input breaks, if it does."""
    kind, witness = script_type(spent.script), transaction.inputs[index].witness
    if kind == "p2wpkh":
        stack, code = list(witness), p2wpkh_script_code(spent.script[2:])
    elif kind == "p2wsh":
        *stack, code = witness
    else:
        return None
    try:
        _Machine(transaction, index, spent, stack, code).run()
    except Unrelayed as broken:
        return str(broken)
    except _Unjudged:
        pass
    return None


class _Machine:
    """Runs one script, for as long as it knows what it sees."""

    def __init__(
        self, transaction: Transaction, index: int, spent: TxOut, stack: list[bytes], code: bytes
    ) -> None:
        self._transaction, self._index, self._spent = transaction, index, spent
        self._stack, self._code = stack, code
        self._branches: list[bool] = []

    def run(self) -> None:
        for opcode, pushed in _instructions(self._code):
            if opcode in _CONTROL:
                self._branch(opcode)
            elif all(self._branches):
                self._execute(opcode, pushed)

    def _execute(self, opcode: int, pushed: bytes | None) -> None:
        if pushed is not None:
            if _shortest_push(pushed)[0] != opcode:
                raise Unrelayed("Data push larger than necessary")
            self._stack.append(pushed)
        elif opcode == _OP_1NEGATE or op.OP_1 <= opcode <= op.OP_16:
            self._stack.append(script_number(opcode - op.OP_1 + 1))
        elif opcode in _UPGRADABLE_NOPS:
            raise Unrelayed("NOPx reserved for soft-fork upgrades")
        else:
            _OPERATIONS.get(opcode, _stop)(self)

    def _branch(self, opcode: int) -> None:
        if opcode == op.OP_ENDIF:
            self._branches.pop()
        elif opcode == op.OP_ELSE:
            self._branches.append(not self._branches.pop())
        elif not all(self._branches):
            self._branches.append(False)
        else:
            chosen = self._stack.pop()
            if chosen not in (_TRUE, _FALSE):
                raise Unrelayed("OP_IF/NOTIF argument must be minimal in witness v0")
            self._branches.append((chosen == _TRUE) == (opcode == op.OP_IF))

    # --- operations

    def check_signature(self) -> None:
        pubkey, signature = self._stack.pop(), self._stack.pop()
        self._stack.append(_truth(self._is_signed(signature, pubkey)))

    def check_signatures(self) -> None:
        pubkeys = [self._stack.pop() for _ in range(self._pop_number())]
        signatures = [self._stack.pop() for _ in range(self._pop_number())]
        self._stack.pop()
        waiting = list(signatures)
        for pubkey in pubkeys:
            # in the order of the keys, and only as long as enough of them are left
            if waiting and self._is_signed(waiting[0], pubkey, may_be_of_another=True):
                waiting.pop(0)
        if waiting and any(signatures):
            raise Unrelayed(_NULLFAIL)
        self._stack.append(_truth(not waiting))

    def _is_signed(self, signature: bytes, pubkey: bytes, *, may_be_of_another: bool = False) -> bool:
        if len(pubkey) != 33 or pubkey[0] not in (2, 3):
            raise Unrelayed("Using non-compressed keys in segwit")
        if not signature:
            return False
        der, sighash_type = signature[:-1], signature[-1]
        if not SIGHASH_ALL <= sighash_type & ~_ANYONE_CAN_PAY <= SIGHASH_SINGLE:
            raise Unrelayed("Signature hash type missing or not understood")
        try:
            compact = secp256k1.compact_of(der)
        except secp256k1.InvalidSignature:
            raise Unrelayed(_NULLFAIL) from None
        if not secp256k1.has_low_s(compact):
            raise Unrelayed("Non-canonical signature: S value is unnecessarily high")
        value_sat = self._spent.value_sat
        digest = segwit_v0_sighash(self._transaction, self._index, self._code, value_sat, sighash_type)
        is_signed = secp256k1.is_signed(pubkey, digest, compact)
        if not is_signed and not may_be_of_another:
            raise Unrelayed(_NULLFAIL)
        return is_signed

    def _pop_number(self) -> int:
        number = self._stack.pop()
        _check_number(number)
        return int.from_bytes(number, "little")

    def check_lock(self) -> None:
        _check_number(self._stack[-1])

    def drop(self) -> None:
        self._stack.pop()

    def duplicate(self) -> None:
        self._stack.append(self._stack[-1])

    def duplicate_if_true(self) -> None:
        if any(self._stack[-1]):
            self.duplicate()

    def swap(self) -> None:
        self._stack[-2:] = self._stack[:-3:-1]

    def size(self) -> None:
        self._stack.append(script_number(len(self._stack[-1])))

    def compare(self) -> None:
        self._stack.append(_truth(self._stack.pop() == self._stack.pop()))

    def hash_with(self, function: Callable[[bytes], bytes]) -> None:
        self._stack.append(function(self._stack.pop()))


def _nothing(_: _Machine) -> None:
    pass


def _stop(_: _Machine) -> None:
    raise _Unjudged


def _each(*operations: Callable[[_Machine], None]) -> Callable[[_Machine], None]:
    def perform(machine: _Machine) -> None:
        for operation in operations:
            operation(machine)

    return perform


def _hashing(*functions: Callable[[bytes], bytes]) -> Callable[[_Machine], None]:
    def perform(machine: _Machine) -> None:
        for function in functions:
            machine.hash_with(function)

    return perform


_CONTROL = frozenset([op.OP_IF, op.OP_NOTIF, op.OP_ELSE, op.OP_ENDIF])
# the script is valid, so what VERIFY drops is true
_OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    _OP_NOP: _nothing,
    _OP_VERIFY: _Machine.drop,
    _OP_2DROP: _each(_Machine.drop, _Machine.drop),
    op.OP_IFDUP: _Machine.duplicate_if_true,
    op.OP_DROP: _Machine.drop,
    op.OP_DUP: _Machine.duplicate,
    op.OP_SWAP: _Machine.swap,
    op.OP_SIZE: _Machine.size,
    op.OP_EQUAL: _Machine.compare,
    op.OP_EQUALVERIFY: _each(_Machine.compare, _Machine.drop),
    _OP_RIPEMD160: _hashing(ripemd160),
    _OP_SHA256: _hashing(sha256),
    op.OP_HASH160: _hashing(sha256, ripemd160),
    _OP_HASH256: _hashing(sha256d),
    op.OP_CHECKSIG: _Machine.check_signature,
    op.OP_CHECKSIGVERIFY: _each(_Machine.check_signature, _Machine.drop),
    op.OP_CHECKMULTISIG: _Machine.check_signatures,
    _OP_CHECKMULTISIGVERIFY: _each(_Machine.check_signatures, _Machine.drop),
    op.OP_CHECKLOCKTIMEVERIFY: _Machine.check_lock,
    op.OP_CHECKSEQUENCEVERIFY: _Machine.check_lock,
}


def _truth(is_true: bool) -> bytes:
    return _TRUE if is_true else _FALSE


def _check_number(number: bytes) -> None:
    is_padded = number[-1:] in (b"\x00", b"\x80") and not (number[-2:-1] and number[-2] & 0x80)
    if is_padded:
        raise Unrelayed("unknown error: the number is not in its shortest form")


def _shortest_push(content: bytes) -> bytes:
    if len(content) == 1 and 1 <= content[0] <= 16:
        return bytes((op.OP_1 + content[0] - 1,))
    return bytes((_OP_1NEGATE,)) if content == b"\x81" else push(content)


def _instructions(code: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Each opcode with what it pushes, if it is a push of bytes."""
    position = 0
    while position < len(code):
        opcode = code[position]
        position += 1
        if opcode > _LAST_PUSH:
            yield opcode, None
            continue
        width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
        length = int.from_bytes(code[position : position + width], "little") if width else opcode
        position += width + length
        yield opcode, code[position - length : position]
