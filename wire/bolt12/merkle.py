"""What a signature of BOLT 12 covers: the root of a tree over the records (BOLT 12, signature calculation).

Beside each record's leaf is one that nobody can guess who does not know the first record, so that a
proof about some records tells nothing about the others.
"""

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from wire.bolt12.errors import BadSignature
from wire.bolt12.forms import InvoiceRequest, Record, in_ranges, records_of
from wire.crypto.hashes import tagged_hash
from wire.crypto.secp256k1 import Point, Secret, is_signed_schnorr, sign_schnorr, xonly_of
from wire.tlv import write_bigsize, write_record

R = TypeVar("R", bound=InvoiceRequest)

SIGNATURE_RANGE = (240, 1000)

_is_signature = in_ranges(SIGNATURE_RANGE)


def merkle_root(records: Sequence[Record]) -> bytes:
    """The root over all records but the signatures, which must be in order; zeros if there are none."""
    covered = [record for record in records if not _is_signature(record)]
    if not covered:
        return bytes(32)
    nonce_tag = b"LnNonce" + write_record(*covered[0])
    nodes = [
        _branch(
            tagged_hash(b"LnLeaf", write_record(type, value)), tagged_hash(nonce_tag, write_bigsize(type))
        )
        for type, value in covered
    ]
    while len(nodes) > 1:
        # one that is left over goes up as it is
        nodes = [_branch(*nodes[at : at + 2]) for at in range(0, len(nodes), 2)]
    return nodes[0]


def _branch(left: bytes, right: bytes | None = None) -> bytes:
    """The node above two, which stand in the order of their values; above one, that one."""
    return left if right is None else tagged_hash(b"LnBranch", min(left, right) + max(left, right))


def signed(form: R, secret: Secret) -> R:
    """The form with its signature by this key."""
    return replace(form, signature=sign_schnorr(secret, signed_digest(form)))


def signed_digest(form: InvoiceRequest) -> bytes:
    """What the signature of a request or an invoice signs."""
    # b12-offers.2
    return tagged_hash(b"lightning" + form.NAME.encode() + b"signature", merkle_root(records_of(form)))


def check_signature(form: InvoiceRequest, key: Point) -> None:
    """Whether the form is signed by this key.

    Raises:
        BadSignature: it is not, or by nobody.
    """
    if form.signature is None or not is_signed_schnorr(xonly_of(key), signed_digest(form), form.signature):
        raise BadSignature(form.NAME.replace("_", " "))
