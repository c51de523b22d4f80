"""Offers of ours as they are handed out: how they lead to us, and with which key we answer for them.

Everything follows from the seed and the wish, so the same wish gives the same offer, and a node that
was restored knows the keys of all it ever made.
"""

from collections.abc import Sequence

import msgspec

from node.daemon.offer_paths import MOST_MESSAGE_PATHS, fronts, is_public, message_path
from node.daemon.offer_ticket import NONCE_BYTES
from node.daemon.signer import Signer
from node.daemon.switch import Switch
from wire.blinded_path import BlindedPath
from wire.bolt12.forms import InvoiceRequest, Offer, encode_form
from wire.bolt12.rules import BITCOIN
from wire.crypto.secp256k1 import Point, Secret, point_of


def draw_offer(switch: Switch, wish: Offer, fronting: Sequence[Point] | None = None) -> Offer:
    """The offer of a wish: with its chain, and how to reach us.

    Args:
        fronting: the peers that lead to us, so that nobody learns our id; none at all if it is
            empty, those that the node needs if it is None.
    """
    chain_hash, signer = switch.house.chain_hash, switch.signer
    wish = msgspec.structs.replace(wish, offer_chains=None if chain_hash == BITCOIN else (chain_hash,))
    fronting = needed_fronts(switch) if fronting is None else fronting
    if not fronting:
        return msgspec.structs.replace(wish, offer_issuer_id=signer.node_id)
    nonce = signer.offer_secret(b"nonce", encode_form(wish))[:NONCE_BYTES]
    # what only leads over peers is signed with a key of its own, or it would name us all the same
    return msgspec.structs.replace(
        wish,
        offer_metadata=nonce,
        offer_paths=_paths(switch, fronting, nonce),
        offer_issuer_id=point_of(signer.offer_secret(b"issuer", nonce)),
    )


def needed_fronts(switch: Switch) -> list[Point]:
    """The peers that must lead to us, for nobody else knows where we are."""
    return [] if is_public(switch) else fronts(switch)[:MOST_MESSAGE_PATHS]


def _paths(switch: Switch, fronting: Sequence[Point], nonce: bytes) -> tuple[BlindedPath, ...]:
    signer = switch.signer
    path_id = signer.offer_secret(b"path id", nonce)
    return tuple(
        message_path((peer_id, signer.node_id), path_id, signer.offer_secret(b"path", nonce + peer_id))
        for peer_id in fronting
    )


def path_id_of(signer: Signer, offer: Offer) -> bytes | None:
    """What must come back with a request for an offer of ours; None if it leads to us without a path."""
    if offer.offer_paths is None:
        return None
    return signer.offer_secret(b"path id", offer.offer_metadata or b"")


def issuer_secret(signer: Signer, offer: Offer) -> Secret:
    """The key that an offer of ours names as its issuer's."""
    if offer.offer_issuer_id == signer.node_id:
        return signer.node_secret
    return signer.offer_secret(b"issuer", offer.offer_metadata or b"")


# --- requests of ours that answer no offer


def draw_request(switch: Switch, wish: InvoiceRequest, nonce: bytes) -> InvoiceRequest:
    """A request to be sent an invoice: with its chain, and how to reach us.

    Args:
        nonce: 16 bytes that nobody can guess.
    """
    chain_hash, signer = switch.house.chain_hash, switch.signer
    fronting = needed_fronts(switch)
    return msgspec.structs.replace(
        wish,
        invreq_metadata=nonce,
        invreq_chain=None if chain_hash == BITCOIN else chain_hash,
        invreq_payer_id=point_of(signer.offer_secret(b"payer", nonce)) if fronting else signer.node_id,
        invreq_paths=_paths(switch, fronting, nonce) if fronting else None,
    )


def request_path_id_of(signer: Signer, request: InvoiceRequest) -> bytes | None:
    """What must come back with an invoice for a request of ours; None if it leads to us without a path."""
    if request.invreq_paths is None:
        return None
    return signer.offer_secret(b"path id", request.invreq_metadata or b"")
