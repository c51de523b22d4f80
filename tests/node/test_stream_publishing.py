"""Files on sale: trees on disk, torrents that others read, and shares that are found again."""

import tracemalloc
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import trio

from node.daemon.invoices import InvoiceRow, new_invoice
from node.stream.content import ContentChanged
from node.stream.files import FileSource
from node.stream.l402 import challenge, is_paid, macaroon
from node.stream.merkle import BLOCK_BYTES, Layout, plant
from node.stream.purchase_book import PurchaseBook
from node.stream.shop import Shop, Wish
from node.stream.torrent import bencode, torrent_of
from node.stream.tree_file import TreeFile, WrongTreeFile, plant_file
from node.stream.vendor import read_sale_text, sale_text
from tests.node.joined import JoinedNode, joined
from tests.node.test_stream_merkle import content_of
from wire.units import Msat

PRICE = Msat(400_000)
HUGE = 1 << 29


async def planted(directory: Path, content: bytes, chunk_size: int) -> TreeFile:
    file = directory / "film"
    file.write_bytes(content)
    with FileSource(file) as source:
        return await plant_file(directory / "film.tree", source, Layout(len(content), chunk_size))


@pytest.mark.parametrize("length", [1, BLOCK_BYTES, 3 * BLOCK_BYTES, 9 * BLOCK_BYTES + 5, 64 * BLOCK_BYTES])
@pytest.mark.parametrize("blocks", [1, 4])
async def test_a_tree_on_disk_is_the_tree_in_memory(length: int, blocks: int, tmp_path: Path) -> None:
    content, chunk_size = content_of(length), blocks * BLOCK_BYTES
    on_disk = await planted(tmp_path, content, chunk_size)
    in_memory = plant(on_disk.layout, [content[at : at + chunk_size] for at in range(0, length, chunk_size)])
    assert on_disk.root == in_memory.root
    for index in range(on_disk.layout.chunk_count):
        assert on_disk.subtree_hash(index) == in_memory.subtree_hash(index)
        assert on_disk.proof(index) == in_memory.proof(index)
    on_disk.close()
    (tmp_path / "film.tree").write_bytes(b"short")
    with pytest.raises(WrongTreeFile):
        TreeFile(tmp_path / "film.tree", on_disk.layout)


@pytest.mark.parametrize("length", [1, BLOCK_BYTES, 4 * BLOCK_BYTES, 9 * BLOCK_BYTES + 5])
async def test_a_torrent_has_the_same_root_in_libtorrent(length: int, tmp_path: Path) -> None:
    libtorrent = pytest.importorskip("libtorrent", reason="libtorrent has no wheel for this Python")
    tree = await planted(tmp_path, content_of(length), 4 * BLOCK_BYTES)
    raw = torrent_of("film.bin", tree)
    meta = libtorrent.load_torrent_buffer(raw).ti
    assert meta.info_hashes().has_v2()
    assert not meta.info_hashes().has_v1()
    files = meta.layout()
    # the last piece is padded in its eyes
    real = [each for each in range(files.num_files()) if not files.file_flags(each) & files.flag_pad_file]
    assert [(files.file_name(each), files.file_size(each)) for each in real] == [("film.bin", length)]
    assert files.root(0).to_bytes() == tree.root
    assert meta.piece_length() == 4 * BLOCK_BYTES


def test_bencode_sorts_its_keys() -> None:
    assert bencode({b"b": 1, b"a": b"xy", b"c": {}}) == b"d1:a2:xy1:bi1e1:cdee"


@pytest.mark.slow
async def test_a_huge_film_costs_no_memory(tmp_path: Path) -> None:
    """One of 512 MiB, with holes, in the smallest chunks, so that its tree is as large as one can be."""
    film = tmp_path / "film"
    with film.open("wb") as file:
        file.truncate(HUGE)
    tracemalloc.start()
    with FileSource(film) as source:
        tree = await plant_file(tmp_path / "tree", source, Layout(HUGE, BLOCK_BYTES))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the hashes of all chunks alone would take more as objects
    assert most < 3 << 20
    zeros = sha256(bytes(BLOCK_BYTES)).digest()
    assert tree.subtree_hash(30_000) == zeros
    for _ in range(15):
        zeros = sha256(zeros + zeros).digest()
    assert tree.root == zeros
    tree.close()


async def opened(node: JoinedNode, directory: Path, nursery: trio.Nursery) -> Shop:
    shop = Shop(node, directory / "shop", PurchaseBook(directory.with_suffix(".sqlite")))
    await nursery.start(shop.run)
    return shop


async def test_shares_are_found_again_unless_the_file_changed(tmp_path: Path) -> None:
    film, other = tmp_path / "film", tmp_path / "other"
    film.write_bytes(content_of(5 * BLOCK_BYTES))
    other.write_bytes(content_of(7))
    async with joined(b"\x0e" * 32) as ([node], _):
        async with trio.open_nursery() as nursery:
            shop = await opened(node, tmp_path / "one", nursery)
            first = await shop.share(Wish(film, PRICE, BLOCK_BYTES, "A film", torrent=tmp_path / "torrent"))
            second = await shop.share(Wish(other, PRICE, BLOCK_BYTES, "Another"))
            assert (tmp_path / "torrent").read_bytes().startswith(b"d4:info")
            nursery.cancel_scope.cancel()
        other.write_bytes(b"changed")
        purchases = tmp_path / "two"
        purchases.mkdir()
        async with trio.open_nursery() as nursery:
            again = Shop(node, tmp_path / "one" / "shop", PurchaseBook(purchases / "purchases.sqlite"))
            await nursery.start(again.run)
            assert again.shares[first.root].manifest == first
            assert not again.shares[first.root].problem
            assert "not what it was" in again.shares[second.root].problem
            assert list(again.provider.vendor.contents) == [first.root]
            assert again.unshare(first.root)
            assert not again.unshare(first.root)
            assert not again.provider.vendor.contents
            nursery.cancel_scope.cancel()


async def test_a_file_that_shrinks_while_it_is_read_is_not_sold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film"
    film.write_bytes(content_of(3 * BLOCK_BYTES))
    read = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda *at: read(*at)[:100])
    async with joined(b"\x0e" * 32) as ([node], nursery):
        shop = await opened(node, tmp_path, nursery)
        with pytest.raises(ContentChanged):
            await shop.share(Wish(film, PRICE, BLOCK_BYTES, "A film"))
        with pytest.raises(OSError, match="No such file"):
            await shop.share(Wish(tmp_path / "none", PRICE, BLOCK_BYTES, "A film"))
        assert not list((tmp_path / "shop").glob("*.tree"))
        assert not list((tmp_path / "shop").glob(".*.tree"))


async def test_a_sale_that_was_paid_and_not_booked_is_booked_at_the_next_start(tmp_path: Path) -> None:
    async with joined(b"\x0e" * 32) as ([node], nursery):
        shop = await opened(node, tmp_path, nursery)
        root, buyer = bytes(range(32)), b"\x02" * 33
        text = sale_text(root, 7, buyer)
        assert read_sale_text(text) == (root, 7, buyer)
        assert read_sale_text("a coffee") is None
        rows = []
        for number, description in enumerate((text, text, "a coffee")):
            row = new_invoice(bytes([number]) * 32, bytes(32), PRICE, description, 0)
            rows.append(row if number == 1 else paid(row))
        assert shop.book_again(rows) == 1
        shop.book.flush()
        assert shop.book_again(rows) == 0
        [found] = shop.book.sums()
        assert (found.root, found.buyer, found.chunks, found.received_msat) == (root, buyer, 1, PRICE)


def paid(row: InvoiceRow) -> InvoiceRow:
    return msgspec.structs.replace(row, received_msat=PRICE, paid_at=5)


def test_an_l402_token_is_ours_for_its_chunk_and_paid() -> None:
    key, preimage, token_id = b"k" * 32, b"p" * 32, b"t" * 32
    payment_hash = sha256(preimage).digest()
    token = macaroon(key, payment_hash, token_id)
    assert challenge(key, payment_hash, token_id, "lnbc1") == f'L402 macaroon="{token}", invoice="lnbc1"'
    assert is_paid(key, token_id, f"L402 {token}:{preimage.hex()}")
    assert is_paid(key, token_id, f"LSAT {token}:{preimage.hex()}")
    for wrong in (
        "",
        "L402",
        f"L402 {token}",
        f"Basic {token}:{preimage.hex()}",
        f"L402 {token}:{bytes(32).hex()}",
        f"L402 {token[:-4]}AAAA:{preimage.hex()}",
        f"L402 !!!!:{preimage.hex()}",
        f"L402 {token}:zz",
    ):
        assert not is_paid(key, token_id, wrong)
    assert not is_paid(key, b"u" * 32, f"L402 {token}:{preimage.hex()}")
    assert not is_paid(b"l" * 32, token_id, f"L402 {token}:{preimage.hex()}")
