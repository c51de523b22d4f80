"""Scripts: opcodes, pushes, and the output forms that Lightning uses (BIP 141, BIP 341).

Every push made here is the minimal one: Bitcoin's relay policy refuses any other, and both
sides of a channel must build equal bytes.
"""

from functools import lru_cache

from wire.crypto.hashes import hash160, sha256

OP_0 = 0x00
OP_PUSHDATA1 = 0x4C
OP_PUSHDATA2 = 0x4D
OP_1 = 0x51
OP_2 = 0x52
OP_16 = 0x60
OP_IF = 0x63
OP_NOTIF = 0x64
OP_ELSE = 0x67
OP_ENDIF = 0x68
OP_RETURN = 0x6A
OP_IFDUP = 0x73
OP_DROP = 0x75
OP_DUP = 0x76
OP_SWAP = 0x7C
OP_SIZE = 0x82
OP_EQUAL = 0x87
OP_EQUALVERIFY = 0x88
OP_HASH160 = 0xA9
OP_CHECKSIG = 0xAC
OP_CHECKSIGVERIFY = 0xAD
OP_CHECKMULTISIG = 0xAE
OP_CHECKLOCKTIMEVERIFY = 0xB1
OP_CHECKSEQUENCEVERIFY = 0xB2

P2WSH_PREFIX = bytes((OP_0, 32))
P2A = bytes.fromhex("51024e73")


def push(content: bytes) -> bytes:
    """The bytes after the shortest push opcode for their length (not for numbers)."""
    length = len(content)
    if length < OP_PUSHDATA1:
        return bytes((length,)) + content
    if length <= 0xFF:
        return bytes((OP_PUSHDATA1, length)) + content
    return bytes((OP_PUSHDATA2,)) + length.to_bytes(2, "little") + content


def script_number(number: int) -> bytes:
    """A number as the script machine counts: little-endian, the sign in the last byte's top bit."""
    if number == 0:
        return b""
    magnitude = abs(number)
    encoded = bytearray(magnitude.to_bytes(magnitude.bit_length() // 8 + 1, "little"))
    if number < 0:
        encoded[-1] |= 0x80
    return bytes(encoded)


@lru_cache(maxsize=4096)
def push_number(number: int) -> bytes:
    """The number after the shortest way to push it; small ones have opcodes of their own."""
    if number == 0:
        return bytes((OP_0,))
    if 1 <= number <= 16:
        return bytes((OP_1 + number - 1,))
    return push(script_number(number))


def script(*parts: int | bytes) -> bytes:
    """A script from opcodes (int) and things to push (bytes)."""
    return b"".join([bytes((part,)) if isinstance(part, int) else push(part) for part in parts])


def p2wsh(witness_script: bytes) -> bytes:
    """The output script that only a witness with this script can spend."""
    return P2WSH_PREFIX + sha256(witness_script)


def p2wpkh(pubkey: bytes) -> bytes:
    """The output script that one key can spend."""
    return bytes((OP_0, 20)) + hash160(pubkey)


def p2pkh(pubkey_hash: bytes) -> bytes:
    """The output script of the oldest addresses, for a 20-byte hash."""
    return script(OP_DUP, OP_HASH160, pubkey_hash, OP_EQUALVERIFY, OP_CHECKSIG)


def p2sh(script_hash: bytes) -> bytes:
    """The output script of pay-to-script-hash, for a 20-byte hash."""
    return script(OP_HASH160, script_hash, OP_EQUAL)


def p2tr(xonly_output_key: bytes) -> bytes:
    """The taproot output script for a 32-byte output key (already tweaked)."""
    return bytes((OP_1, 32)) + xonly_output_key


def op_return(*pushes: bytes) -> bytes:
    """An output that nobody can spend and that carries these bytes."""
    return script(OP_RETURN, *pushes)


def funding_script(pubkey_a: bytes, pubkey_b: bytes) -> bytes:
    """The witness script of a channel's output: both keys must sign (BOLT 3, funding)."""
    # b3-transactions.2: the keys are sorted, so both sides build the same script
    low, high = sorted((pubkey_a, pubkey_b))
    return script(OP_2, low, high, OP_2, OP_CHECKMULTISIG)


def witness_program(output_script: bytes) -> tuple[int, bytes] | None:
    """Version and program of a segwit output script, or None for any other script."""
    if not 4 <= len(output_script) <= 42 or output_script[1] != len(output_script) - 2:
        return None
    opcode = output_script[0]
    if opcode == OP_0:
        return 0, output_script[2:]
    if OP_1 <= opcode <= OP_16:
        return opcode - OP_1 + 1, output_script[2:]
    return None
