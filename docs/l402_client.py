"""Buy a content from a Rill provider's HTTP door with any Lightning wallet.

    python l402_client.py URL ROOT OUT --pay 'lightning-cli pay'

URL is the door, ROOT the content's pieces root in hex. The words after --pay are run with an
invoice as their last argument and must print JSON with the preimage: `lightning-cli pay`, `lncli
payinvoice --force --json`, `rill cli --json pay`. For each chunk:

1. GET /ROOT/INDEX answers 402 Payment Required. `WWW-Authenticate` has the invoice, `Rill-Offer` the
   provider's signed offer in hex, and the body is the chunk's ciphertext.
2. Before paying, check what the offer promises: the hash of the ciphertext, and a Merkle proof that
   leads from the chunk's hash to ROOT (BitTorrent v2: SHA-256 over blocks of 16 KiB).
3. Pay. The preimage makes the key: a tagged hash of preimage, ROOT and INDEX (BIP 340's tags). Open
   the ciphertext (ChaCha20-Poly1305, zero nonce) and check the chunk against the hash.
"""

import argparse
import json
import re
import shlex
import struct
import subprocess
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

OFFER = struct.Struct(">33s32sQIIQ32s32sQ32s32sB")  # then the proof, 32 bytes a hash, and the signature


def hashed(*parts):
    return sha256(b"".join(parts)).digest()


def subtree(chunk, chunk_size, length):
    layer = [hashed(chunk[at : at + 16384]) for at in range(0, len(chunk), 16384)]
    leaves = -(-min(chunk_size, length) // 16384)
    layer += [bytes(32)] * ((1 << (leaves - 1).bit_length()) - len(layer))
    while len(layer) > 1:
        layer = [hashed(*layer[at : at + 2]) for at in range(0, len(layer), 2)]
    return layer[0]


def buy(url, root, index, pay):
    try:
        return urlopen(f"{url}/{root.hex()}/{index}").read()  # a chunk that is free
    except HTTPError as answer:
        if answer.code != 402:
            raise
        ciphertext, offer = answer.read(), bytes.fromhex(answer.headers["Rill-Offer"])
        invoice = re.search('invoice="([^"]+)"', answer.headers["WWW-Authenticate"])[1]
    _, _, length, chunk_size, *_, promised, digest, count = OFFER.unpack_from(offer)
    climbed = promised
    for level in range(count):
        sibling = offer[OFFER.size + 32 * level :][:32]
        climbed = hashed(sibling, climbed) if index >> level & 1 else hashed(climbed, sibling)
    if (climbed, hashed(ciphertext)) != (root, digest):
        raise SystemExit(f"the offer of chunk {index} is not for this content: nothing was paid for it")
    paid = json.loads(subprocess.run([*pay, invoice], check=True, capture_output=True).stdout)
    preimage = bytes.fromhex(paid.get("payment_preimage") or paid["preimage"])
    tag = hashed(b"rill/chunk-key/1")
    key = hashed(tag, tag, preimage, root, index.to_bytes(4, "big"))
    chunk = ChaCha20Poly1305(key).decrypt(bytes(12), ciphertext, None)
    if subtree(chunk, chunk_size, length) != promised:
        raise SystemExit(f"fraud: what was paid for is not chunk {index}")
    return chunk


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("url", "root", "out"):
        parser.add_argument(name)
    parser.add_argument("--pay", required=True, type=shlex.split)
    wish = parser.parse_args()
    content = json.load(urlopen(f"{wish.url.rstrip('/')}/{wish.root}"))
    with Path(wish.out).open("wb") as file:
        for number in range(content["chunks"]):
            file.write(buy(wish.url.rstrip("/"), bytes.fromhex(wish.root), number, wish.pay))
