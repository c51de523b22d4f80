"""The words of a seed, in the hands of other wallets: BIP 39, 84, 86 and 380."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from embit import bip32, bip39
from embit.descriptor import Descriptor
from embit.descriptor.checksum import add_checksum
from embit.networks import NETWORKS

from node.cli.restore_service import read_seed
from node.daemon.node import Node, NodeConfig
from node.daemon.seed import SEED_NAME, SeedDamaged, seed_in, seed_of, wallet_seed_of, words_of
from node.daemon.signer import Signer
from node.daemon.wallet import Wallet
from tests.node.backends import OverRpc
from tests.node.conftest import _free_port
from tests.node.line import network
from tests.node.payer import SCRIPT
from tests.node.relay_ground import Bitcoind, installed_bitcoind
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client
from wire.bitcoin.address import address_of, script_of
from wire.bitcoin.tx import TxOut
from wire.units import Sat

WORDS = "abandon " * 11 + "about"
SEGWIT, TAPROOT = 0, 1
PATIENCE_SECONDS = 60
SAT_PER_VBYTE = 10


def wallet_of(words: str, chain: str = "bitcoin") -> Wallet:
    return Wallet(Signer(seed_of(words)).wallet_seed, chain)


def test_words_become_the_seed_that_bip_39_publishes() -> None:
    assert wallet_seed_of(seed_of(WORDS)).hex() == (
        "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1"
        "9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4"
    )


def test_words_show_the_addresses_that_bip_84_and_bip_86_publish() -> None:
    first, second = (wallet_of(WORDS).new_scripts() for _ in range(2))
    assert address_of(first[SEGWIT], "bitcoin") == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"
    assert address_of(first[TAPROOT], "bitcoin") == (
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    )
    assert first == second, "the same words, the same wallet"


def test_descriptors_show_the_keys_that_bip_86_publishes() -> None:
    shown = [descriptor.text for descriptor in wallet_of(WORDS).descriptors()]
    key = (
        "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGV"
        "ky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ"
    )
    assert [text.partition("#")[0] for text in shown[2:]] == [
        f"tr([73c5da0a/86h/0h/0h]{key}/{branch}/*)" for branch in (0, 1)
    ]
    assert all(text == add_checksum(text.partition("#")[0]) for text in shown)


@pytest.mark.parametrize("count", [12, 15, 18, 21, 24])
def test_a_seed_may_be_given_as_so_many_words(tmp_path: Path, count: int) -> None:
    seed = bytes(range(count * 4 // 3))
    (tmp_path / "words").write_text(words_of(seed).upper())
    assert len(words_of(seed).split()) == count
    assert read_seed(tmp_path / "words") == seed


def test_a_seed_that_is_cut_off_is_one_sentence(tmp_path: Path) -> None:
    assert len(seed_in(tmp_path)) == 32
    assert (tmp_path / SEED_NAME).stat().st_mode & 0o777 == 0o600
    (tmp_path / SEED_NAME).write_bytes(bytes(31))
    with pytest.raises(SeedDamaged, match="seed is no seed: it has not the length of one"):
        seed_in(tmp_path)


async def test_addresses_are_listed_as_they_were_given(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        given = [await alice.call("newaddr", addresstype="all") for _ in range(4)]
        listed = (await alice.call("listaddresses"))["addresses"]
        assert listed == [{"keyidx": index, **both} for index, both in enumerate(given)]
        assert (await alice.call("listaddresses", start=1, limit=2))["addresses"] == listed[1:3]
        [found] = (await alice.call("listaddresses", address=given[2]["p2tr"]))["addresses"]
        assert found == listed[2]
        assert await alice.code("listaddresses", ["bc1qx"]) == -32602
        # another implementation reads the same scripts from the descriptors
        for text, form in zip(await receiving(alice), ("bech32", "p2tr"), strict=True):
            theirs = Descriptor.from_string(text)
            assert [theirs.derive(index).address(NETWORKS["regtest"]) for index in range(4)] == [
                both[form] for both in given
            ]


async def receiving(client: Client) -> list[str]:
    listed = (await client.call("listdescriptors"))["descriptors"]
    assert [entry["internal"] for entry in listed] == [False, True] * 2
    return [check("listdescriptors", entry)["desc"] for entry in listed if not entry["internal"]]


@pytest.fixture
def bitcoind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bitcoind]:
    server = Bitcoind(installed_bitcoind(), tmp_path_factory.mktemp("bitcoind"), _free_port())
    yield server
    server.close()


@pytest.mark.slow
async def test_bitcoinds_own_wallet_sees_the_coins_and_spends_them(
    tmp_path: Path, bitcoind: Bitcoind
) -> None:
    """By the descriptors it watches them; from the words, with their secrets, it empties the wallet."""
    backend = OverRpc(bitcoind)
    async with trio.open_nursery() as nursery:
        node = Node(NodeConfig(tmp_path / "alice"), backend.chain())
        await nursery.start(node.run)
        alice = Client(node)
        given = [await alice.call("newaddr", addresstype="all") for _ in range(3)]
        scripts = [script_of(both[form], "regtest") for both in given for form in both]
        await backend.fund_many([TxOut(Sat(50_000), script) for script in scripts])
        await followed(node, bitcoind)
        # what is paid out leaves change, which the other wallet has to see, too
        sent = await alice.call("withdraw", destination=given[0]["bech32"], satoshi=70_000)
        await backend.mine()
        await followed(node, bitcoind)
        ours_sat = node.wallet.balance_sat().confirmed_sat
        assert ours_sat == 300_000 - sent["fee_msat"] // 1000

        bitcoind.call("createwallet", "watching", True, True)  # no secrets, and empty
        shown = (await alice.call("listdescriptors"))["descriptors"]
        assert all(each["success"] for each in bitcoind.call("importdescriptors", shown))
        assert sat(bitcoind.call("getbalances")["mine"]["trusted"]) == ours_sat
        bitcoind.call("unloadwallet", "watching")

        bitcoind.call("createwallet", "restored", False, True)
        words = words_of((tmp_path / "alice" / SEED_NAME).read_bytes())
        secrets = [{"desc": text, "timestamp": 0} for text in secret_descriptors(words)]
        assert all(each["success"] for each in bitcoind.call("importdescriptors", secrets))
        assert sat(bitcoind.call("getbalance")) == ours_sat
        taken = bitcoind.call("sendall", [address_of(SCRIPT, "regtest")], None, "unset", SAT_PER_VBYTE)
        assert taken["complete"]
        await backend.mine()
        await followed(node, bitcoind)
        assert node.wallet.balance_sat().confirmed_sat == 0
        nursery.cancel_scope.cancel()


def secret_descriptors(words: str) -> list[str]:
    """What another wallet makes of the words, by its own means."""
    root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(words), NETWORKS["regtest"]["xprv"])
    return [
        add_checksum(f"{form}({root.to_base58()}/{purpose}h/1h/0h/{branch}/*)")
        for form, purpose in (("wpkh", 84), ("tr", 86))
        for branch in (0, 1)
    ]


async def followed(node: Node, bitcoind: Bitcoind) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        await node.watcher.wait_for_height(bitcoind.call("getblockcount"))


def sat(amount_btc: float) -> int:
    return round(amount_btc * 100_000_000)
