"""What the curve, the hashes and the ciphers cost by themselves: the floor of everything else."""

from tests.bench.harness import Report
from wire.crypto import secp256k1
from wire.crypto.aead import Aead, chacha20_stream
from wire.crypto.hashes import hmac_sha256, sha256

SECRET = bytes([7]) * 32
DIGEST = bytes([9]) * 32
PACKET = bytes(1366)


def run(report: Report) -> None:
    """Each primitive once, with the arguments of its commonest use."""
    point = secp256k1.point_of(SECRET)
    signature = secp256k1.sign(SECRET, DIGEST)
    aead = Aead(SECRET)
    report.time("sha256, 1366 bytes", lambda: sha256(PACKET))
    report.time("hmac-sha256, 1366 bytes", lambda: hmac_sha256(SECRET, PACKET))
    report.time("chacha20 stream, 1366 bytes", lambda: chacha20_stream(SECRET, 1366))
    report.time("seal 18 bytes", lambda: aead.seal(0, PACKET[:2]))
    report.time("seal 1366 bytes", lambda: aead.seal(0, PACKET))
    report.time("sign", lambda: secp256k1.sign(SECRET, DIGEST))
    report.time("verify", lambda: secp256k1.is_signed(point, DIGEST, signature))
    report.time("ecdh", lambda: secp256k1.ecdh(SECRET, point))
