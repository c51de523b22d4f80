"""The provider's HTTP door: any Lightning wallet can buy a chunk, without speaking our protocol.

`GET /` lists what is on sale, `GET /ROOT` one content, `GET /ROOT/INDEX` a chunk. Unpaid, a chunk is
answered with 402: an L402 header with a BOLT 11 invoice, the signed offer in `Rill-Offer`, and the
ciphertext as the body. The invoice's preimage decrypts it, so the sale is as atomic as between two
nodes; a client may also come back with the preimage, as L402 has it, and get the chunk itself.

A client is known by its address only, which is all that its credit is bound to.
"""

import logging
from ipaddress import ip_address

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.daemon.node import Node
from node.daemon.web import serve_web
from node.stream.content import Content, ContentChanged, NotHereYet
from node.stream.l402 import challenge, is_paid
from node.stream.manifest import manifest_view
from node.stream.messages import Reason
from node.stream.offer import Offer
from node.stream.vendor import CreditUsedUp, Refused, Sold, Vendor
from wire.crypto.hashes import sha256, tagged_hash
from wire.crypto.secp256k1 import Point

log = logging.getLogger("rill.stream")

_KEY_TAG = b"rill/l402-key/1"
_BINARY = "application/octet-stream"
_STATUS = {Reason.UNKNOWN_CONTENT: 404, Reason.NO_SUCH_CHUNK: 404, Reason.UNPAID: 429}
MOST_LISTED = 1000


class Door:
    """Sells over HTTP what the node's vendor sells."""

    def __init__(self, node: Node, vendor: Vendor) -> None:
        self._node, self._vendor = node, vendor
        # a signature of ours over a fixed text is a secret that needs no keeping
        self._key = sha256(node.sign_digest(tagged_hash(_KEY_TAG, b"")))

    async def run(
        self, host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; started with the port once it listens.

        Raises:
            WebPortTaken: it cannot listen there.
        """
        await serve_web(self.app(), host, port, task_status=task_status)

    def app(self) -> Starlette:
        """The web application."""
        return Starlette(
            routes=[
                Route("/", self._list),
                Route("/{root}", self._show),
                Route("/{root}/{index:int}", self._sell),
            ]
        )

    async def _list(self, _: Request) -> Response:
        contents = list(self._vendor.contents.values())[:MOST_LISTED]
        return JSONResponse({"titles": [manifest_view(each.manifest) for each in contents]})

    async def _show(self, request: Request) -> Response:
        content = self._content(request)
        if content is None:
            return _refusal(Reason.UNKNOWN_CONTENT)
        return JSONResponse({**manifest_view(content.manifest), "manifest": content.manifest.raw.hex()})

    async def _sell(self, request: Request) -> Response:
        content, index = self._content(request), request.path_params["index"]
        if content is None:
            return _refusal(Reason.UNKNOWN_CONTENT)
        if index >= content.tree.layout.chunk_count:
            return _refusal(Reason.NO_SUCH_CHUNK)
        root = content.tree.root
        token_id = sha256(root + index.to_bytes(8, "big"))
        if is_paid(self._key, token_id, request.headers.get("authorization", "")):
            return _plainly(content, index)
        try:
            sold = await self._vendor.sell(_buyer(request), root, index)
        except CreditUsedUp:
            return _refusal(Reason.UNPAID)
        except Refused as refused:
            return _refusal(refused.reason)
        if not sold.offer.terms.price_msat:
            return _plainly(content, index, sold.offer)
        return self._bill(sold, token_id)

    def _bill(self, sold: Sold, token_id: bytes) -> Response:
        payment_hash = sold.offer.terms.payment_hash
        invoice = self._node.bolt11(self._node.switch.invoices.rows[payment_hash])
        headers = {
            "WWW-Authenticate": challenge(self._key, payment_hash, token_id, invoice),
            "Rill-Offer": sold.offer.encode().hex(),
        }
        return Response(sold.ciphertext, 402, headers, _BINARY)

    def _content(self, request: Request) -> Content | None:
        try:
            return self._vendor.contents.get(bytes.fromhex(request.path_params["root"]))
        except ValueError:
            return None


def _plainly(content: Content, index: int, offer: Offer | None = None) -> Response:
    """The chunk itself."""
    try:
        chunk = content.chunk(index)
    except (ContentChanged, NotHereYet, OSError) as reason:
        log.warning("chunk %d cannot be given: %r", index, reason)
        return _refusal(Reason.UNAVAILABLE)
    return Response(chunk, 200, {"Rill-Offer": offer.encode().hex()} if offer else {}, _BINARY)


def _refusal(reason: Reason) -> Response:
    return JSONResponse({"error": reason.name.lower().replace("_", " ")}, _STATUS.get(reason, 503))


def _buyer(request: Request) -> Point:
    """The client's address in the form of a node id; it is no key, and nobody can sign for it."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
        # one who has an IPv6 network has many addresses in it
        host = str(address) if address.version == 4 else address.exploded[:19]
    except ValueError:
        pass
    return b"\x02" + sha256(host.encode())
