"""What an invoice for an offer says of itself in the paths that lead to us.

Anybody may ask for as many invoices as he likes, for nothing, so none of them may cost us memory for
ever. All that it takes to be paid for one is in the `path_id` that comes back with the payment, under
a code that only we can have made; the preimage follows from it. What we keep beside it is for our
user to look at, and may be dropped.
"""

import msgspec

from node.daemon.signer import Signer
from wire.crypto.hashes import hmac_sha256, is_equal_constant_time
from wire.units import Msat

NONCE_BYTES = 16
_OFFER_ID_BYTES = 32
_CODE_BYTES = 16
_BODY_BYTES = NONCE_BYTES + _OFFER_ID_BYTES + 8 + 6 + 2 + 1


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One invoice for an offer of ours."""

    nonce: bytes
    offer_id: bytes
    amount_msat: Msat
    expires_at: int
    final_delta_blocks: int
    is_single_use: bool

    def path_id(self, signer: Signer) -> bytes:
        """What is written for us into every path of the invoice."""
        body = b"".join(
            (
                self.nonce,
                self.offer_id,
                self.amount_msat.to_bytes(8, "big"),
                self.expires_at.to_bytes(6, "big"),
                self.final_delta_blocks.to_bytes(2, "big"),
                bytes((self.is_single_use,)),
            )
        )
        return body + _code(signer, body)

    def preimage(self, signer: Signer) -> bytes:
        """The preimage of the invoice, which nobody else can compute."""
        return signer.offer_secret(b"preimage", self.path_id(signer))


def read_ticket(path_id: bytes, signer: Signer) -> Ticket | None:
    """What we wrote into a path; None if it was not us."""
    body, code = path_id[:_BODY_BYTES], path_id[_BODY_BYTES:]
    if len(body) != _BODY_BYTES or not is_equal_constant_time(code, _code(signer, body)):
        return None
    at = NONCE_BYTES + _OFFER_ID_BYTES
    return Ticket(
        body[:NONCE_BYTES],
        body[NONCE_BYTES:at],
        Msat(int.from_bytes(body[at : at + 8], "big")),
        int.from_bytes(body[at + 8 : at + 14], "big"),
        int.from_bytes(body[at + 14 : at + 16], "big"),
        bool(body[-1]),
    )


def _code(signer: Signer, body: bytes) -> bytes:
    return hmac_sha256(signer.offer_secret(b"ticket", b""), body)[:_CODE_BYTES]
