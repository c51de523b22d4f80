"""Commands of a provider: what is on sale, and what was sold."""

from pathlib import Path
from typing import Any

from node.daemon.rpc_parameters import INVALID_PARAMETERS, AmountMsat, CommandFailed, Hash, Integer, Text
from node.daemon.web import WebPortTaken
from node.stream.content import ContentChanged
from node.stream.manifest import BadManifestRecord, Manifest, manifest_view
from node.stream.merkle import InvalidLayout
from node.stream.pace import DUST_LIMIT_SAT
from node.stream.service import Stream
from node.stream.shop import Wish
from node.stream.snapshot import price_note
from wire.units import Msat

CANNOT_BE_SOLD = 1301
NOT_ON_SALE = 1302
USUAL_CHUNK_BYTES = 262_144
USUAL_PRICE_MSAT = Msat(400_000)
assert USUAL_PRICE_MSAT > DUST_LIMIT_SAT * 1000, "what is usual needs no warning"


class SellingCommands:
    """Shares and sales."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._shop = stream, stream.shop

    async def share(
        self,
        path: Text,
        price_msat: AmountMsat = USUAL_PRICE_MSAT,
        chunk_size: Integer = USUAL_CHUNK_BYTES,
        title: Text | None = None,
        free_chunks: Integer = 0,
        torrent: Text | None = None,
    ) -> dict[str, Any]:
        """Sell a file, chunk by chunk."""
        file = Path(path)
        if not file.is_absolute() or (torrent is not None and not Path(torrent).is_absolute()):
            raise CommandFailed(INVALID_PARAMETERS, "path and torrent: should be absolute")
        where = None if torrent is None else Path(torrent)
        wish = Wish(file, price_msat, chunk_size, file.name if title is None else title, free_chunks, where)
        try:
            manifest = await self._shop.share(wish)
        except OSError as error:
            name = error.filename or path
            raise CommandFailed(CANNOT_BE_SOLD, f"{name}: {(error.strerror or str(error)).lower()}") from None
        except (InvalidLayout, BadManifestRecord, ContentChanged) as why:
            raise CommandFailed(CANNOT_BE_SOLD, f"{path} cannot be sold: {why}") from None
        return self._shown(str(file), manifest, "")

    async def listshares(self) -> dict[str, Any]:
        """What is on sale."""
        shares = self._shop.shares.values()
        return {"shares": [self._shown(each.path, each.manifest, each.problem) for each in shares]}

    async def unshare(self, root: Hash) -> dict[str, Any]:
        """Sell a content no more; the file stays."""
        if not self._shop.unshare(root):
            raise CommandFailed(NOT_ON_SALE, f"{root.hex()} is not on sale here")
        return {"root": root.hex()}

    async def opendoor(self, host: Text = "127.0.0.1", port: Integer = 0) -> dict[str, Any]:
        """Sell over HTTP, too, so that any wallet can buy; see `closedoor`."""
        try:
            taken = await self._stream.open_door(host, port)
        except WebPortTaken as why:
            raise CommandFailed(CANNOT_BE_SOLD, str(why)) from None
        return {"url": f"http://{f'[{host}]' if ':' in host else host}:{taken}/"}

    async def closedoor(self) -> dict[str, Any]:
        """Sell over HTTP no more."""
        self._stream.close_door()
        return {}

    async def listsales(self) -> dict[str, Any]:
        """What was sold, by title and buyer, and all that was earned and spent."""
        sums = self._shop.book.sums()
        titles = {root: each.manifest.title for root, each in self._shop.shares.items()}
        spent_msat, fee_msat = self._stream.library.book.spent_msat()
        return {
            "sales": [
                {
                    "root": each.root.hex(),
                    "title": titles.get(each.root, ""),
                    "buyer": each.buyer.hex(),
                    "chunks": each.chunks,
                    "received_msat": each.received_msat,
                    "last_at": each.last_at,
                }
                for each in sums
            ],
            "earned_msat": sum(each.received_msat for each in sums),
            "spent_msat": spent_msat,
            "fee_msat": fee_msat,
        }

    def _shown(self, path: str, manifest: Manifest, problem: str) -> dict[str, Any]:
        shown = {
            **manifest_view(manifest),
            "path": path,
            "link": str(self._stream.link_of(manifest.root)),
            "price_note": price_note(manifest.price_msat),
        }
        return {**shown, "problem": problem} if problem else shown
