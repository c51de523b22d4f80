"""Witnesses that consensus allows and nobody relays; bitcoind, where there is one, must agree."""

from collections.abc import Callable, Sequence

import pytest

from tests.node.payer import PUBKEY, SCRIPT, SECRET
from tests.node.relay_ground import Ground
from wire.bitcoin import script as op
from wire.bitcoin.script import funding_script, p2wsh, push_number, script
from wire.bitcoin.sighash import SIGHASH_ALL, SIGHASH_SINGLE_ANYONECANPAY, segwit_v0_sighash
from wire.bitcoin.tx import Transaction, TxIn, TxOut
from wire.crypto import secp256k1
from wire.crypto.hashes import hash160
from wire.units import Sat

VALUE_SAT = Sat(100_000)
OTHER_SECRET = bytes(31) + b"\x09"
OTHER = secp256k1.point_of(OTHER_SECRET)
UNCOMPRESSED = bytes.fromhex(
    "04"
    "5cbdf0646e5db4eaa398f365f2ea7a0e3d419b7e0330e39ce92bddedcac4f9bc"
    "6aebca40ba255960a3178d6d861a54dba813d0b813fde7b5a5082628087264da"
)
NOT_RELAYED = "non-mandatory-script-verify-flag"

Witness = Callable[[Callable[..., bytes]], Sequence[bytes]]
IF_KEY_ELSE_OTHER = script(op.OP_IF, PUBKEY, op.OP_ELSE, OTHER, op.OP_ENDIF, op.OP_CHECKSIG)
ON_TIME = push_number(3) + script(op.OP_CHECKSEQUENCEVERIFY, op.OP_DROP, PUBKEY, op.OP_CHECKSIG)
ONE_OF_TWO = script(op.OP_1, PUBKEY, OTHER, op.OP_2, op.OP_CHECKMULTISIG)
BOTH = funding_script(PUBKEY, OTHER)
KEY = script(PUBKEY, op.OP_CHECKSIG)
KEY_OR_ANYBODY = script(PUBKEY, op.OP_CHECKSIG, op.OP_IFDUP, op.OP_NOTIF, op.OP_1, op.OP_ENDIF)
PREIMAGE = script(
    op.OP_SIZE,
    b"\x20",
    op.OP_EQUALVERIFY,
    op.OP_HASH160,
    hash160(bytes(32)),
    op.OP_EQUALVERIFY,
    PUBKEY,
    op.OP_CHECKSIG,
)


def high_s(signature: bytes) -> bytes:
    """The other signature of the same point, which consensus accepts too."""
    s = secp256k1.GROUP_ORDER - int.from_bytes(signature[32:], "big")
    r = signature[:32].lstrip(b"\x00")
    numbers = [(b"\x00" + each if each[0] & 0x80 else each) for each in (r, s.to_bytes(32, "big"))]
    body = b"".join(b"\x02" + bytes((len(each),)) + each for each in numbers)
    return b"\x30" + bytes((len(body),)) + body


def spend(ground: Ground, witness_script: bytes, witness: Witness) -> Transaction:
    """A transaction that spends a P2WSH output; `witness` gets a function that signs it."""
    [coin] = ground.coins(script=p2wsh(witness_script))
    unsigned = Transaction(2, (TxIn(coin, 1),), (TxOut(Sat(99_000), SCRIPT),))

    def sign(secret: bytes = SECRET, sighash_type: int = SIGHASH_ALL, *, is_high: bool = False) -> bytes:
        digest = segwit_v0_sighash(unsigned, 0, witness_script, VALUE_SAT, sighash_type)
        signature = secp256k1.sign(secret, digest)
        der = high_s(signature) if is_high else secp256k1.der_of(signature)
        return der + bytes((sighash_type,))

    return unsigned.with_witness(0, (*witness(sign), witness_script))


def in_order(sign: Callable[..., bytes]) -> list[bytes]:
    signatures = {PUBKEY: sign(), OTHER: sign(OTHER_SECRET)}
    return [b"", *(signatures[key] for key in sorted(signatures))]


@pytest.mark.parametrize(
    ("witness_script", "witness"),
    [
        pytest.param(KEY, lambda sign: [sign()], id="a signature"),
        pytest.param(KEY, lambda sign: [sign(SECRET, SIGHASH_SINGLE_ANYONECANPAY)], id="a single-anyone one"),
        pytest.param(IF_KEY_ELSE_OTHER, lambda sign: [sign(), b"\x01"], id="the first branch"),
        pytest.param(IF_KEY_ELSE_OTHER, lambda sign: [sign(OTHER_SECRET), b""], id="the second branch"),
        pytest.param(BOTH, in_order, id="two of two"),
        pytest.param(ONE_OF_TWO, lambda sign: [b"", sign()], id="the first of two"),
        pytest.param(ONE_OF_TWO, lambda sign: [b"", sign(OTHER_SECRET)], id="the second of two"),
        pytest.param(KEY_OR_ANYBODY, lambda _: [b""], id="an empty signature that may fail"),
        pytest.param(PREIMAGE, lambda sign: [sign(), bytes(32)], id="a preimage"),
    ],
)
def test_the_usual_witnesses_are_relayed(ground: Ground, witness_script: bytes, witness: Witness) -> None:
    ground.accepts(spend(ground, witness_script, witness))


@pytest.mark.parametrize(
    ("witness_script", "witness"),
    [
        pytest.param(IF_KEY_ELSE_OTHER, lambda sign: [sign(), b"\x02"], id="a branch chosen by 2"),
        pytest.param(IF_KEY_ELSE_OTHER, lambda sign: [sign(), b"\x01\x00"], id="a branch chosen by a long 1"),
        pytest.param(
            IF_KEY_ELSE_OTHER, lambda sign: [sign(OTHER_SECRET), b"\x00"], id="a branch chosen by 0"
        ),
        pytest.param(KEY, lambda sign: [sign(is_high=True)], id="a high S"),
        pytest.param(KEY, lambda sign: [sign(SECRET, 0x04)], id="an unknown signature type"),
        pytest.param(script(UNCOMPRESSED, op.OP_CHECKSIG), lambda sign: [sign()], id="an uncompressed key"),
        pytest.param(b"\x4c\x21" + PUBKEY + b"\xac", lambda sign: [sign()], id="a long push"),
        pytest.param(b"\x01\x01\x75" + KEY, lambda sign: [sign()], id="a 1 that is pushed as bytes"),
        pytest.param(b"\x02\x01\x00\xb2\x75" + KEY, lambda sign: [sign()], id="a padded number"),
        pytest.param(KEY_OR_ANYBODY, lambda sign: [sign(OTHER_SECRET)], id="a wrong signature that may fail"),
        pytest.param(b"\xb0" + KEY, lambda sign: [sign()], id="an opcode of the future"),
    ],
)
def test_what_consensus_allows_beyond_them_is_not(
    ground: Ground,
    witness_script: bytes,
    witness: Witness,
) -> None:
    ground.refuses(NOT_RELAYED, spend(ground, witness_script, witness))


def test_a_p2wpkh_signature_has_a_low_s_too(ground: Ground) -> None:
    [coin] = ground.coins()
    low = ground.payer.spend(coin)
    signature, pubkey = low.inputs[0].witness
    high = high_s(secp256k1.compact_of(signature[:-1])) + signature[-1:]
    ground.refuses(NOT_RELAYED, low.with_witness(0, (high, pubkey)))
    ground.accepts(low)


def test_a_script_with_opcodes_beyond_lightning_is_left_to_consensus(ground: Ground) -> None:
    added = b"\x51\x51\x93\x52\x88" + KEY
    ground.accepts(spend(ground, added, lambda sign: [sign()]))
