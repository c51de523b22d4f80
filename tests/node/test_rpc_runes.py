"""The commands about runes: what they allow, and that they are remembered."""

from pathlib import Path
from typing import Any

import pytest

from node.daemon.runes import Alternative, Restriction, Rune
from tests.node.line import network
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client

PEER = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


async def made(client: Client, *restrictions: list[str]) -> str:
    rune = check("createrune", await client.call("createrune", restrictions=list(restrictions)))["rune"]
    assert isinstance(rune, str)
    return rune


@pytest.mark.parametrize(
    ("restrictions", "asked", "code"),
    [
        ([], {"method": "pay"}, 0),
        ([["method=getinfo"]], {"method": "getinfo"}, 0),
        ([["method=getinfo"]], {"method": "pay"}, 1502),
        ([["pnameamount_msat<10000"]], {"params": {"amount_msat": 9999}}, 0),
        ([["pnameamountmsat<10000"]], {"params": {"amount_msat": 10000}}, 1502),
        ([["pnum=1"], ["parr0^02"]], {"params": [PEER]}, 0),
        ([["pnum=1"]], {"params": [PEER, 1]}, 1502),
        ([[f"id={PEER}"]], {"nodeid": PEER}, 0),
        ([[f"id={PEER}"]], {}, 1502),
        ([["time<1000"]], {}, 1502),
        ([["time>1000"]], {}, 0),
        ([["rate=1x"]], {}, 1502),
    ],
)
async def test_a_rune_allows_what_it_says(
    tmp_path: Path, restrictions: list[list[str]], asked: dict[str, Any], code: int
) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        reply = await alice.reply("checkrune", {"rune": await made(alice, *restrictions), **asked})
        assert reply.get("error", {"code": 0})["code"] == code
        if not code:
            assert check("checkrune", reply["result"]) == {"valid": True}


async def test_what_only_reads_is_allowed_by_one_word(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        rune = (await alice.call("createrune", restrictions="readonly"))["rune"]
        allowed = [
            method
            for method in ("listpeers", "getinfo", "pay", "listdatastore", "stop")
            if not (await alice.reply("checkrune", {"rune": rune, "method": method})).get("error")
        ]
        assert allowed == ["listpeers", "getinfo"]


@pytest.mark.parametrize("pace", ["per=1hour", "rate=1"])
async def test_a_rune_may_be_used_so_often(tmp_path: Path, pace: str) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        rune = await made(alice, [pace])
        assert await alice.call("checkrune", rune=rune) == {"valid": True}
        assert await alice.code("checkrune", {"rune": rune}) == 1502
        await net.stop("alice")
        await net.start("alice")
        assert await Client(net["alice"]).code("checkrune", {"rune": rune}) == 1502


async def test_restrictions_are_added_and_shown(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        whole = await alice.call("createrune")
        assert whole["warning_unrestricted_rune"].startswith("WARNING")
        narrow = await alice.call("createrune", rune=whole["rune"], restrictions=[["method^list", "pnum!"]])
        assert narrow["unique_id"] == whole["unique_id"] == "0"
        [stored] = (await alice.call("showrunes"))["runes"]
        assert check("showrunes", stored)["restrictions_as_english"] == ""
        [shown] = (await alice.call("showrunes", rune=narrow["rune"]))["runes"]
        assert shown["restrictions_as_english"] == "method starts with list OR pnum is missing"
        restriction = check("rune restriction", shown["restrictions"][0])
        check("rune alternative", restriction["alternatives"][0])
        assert (shown["stored"], "our_rune" in shown) == (False, False)
        [foreign] = (await bob.call("showrunes", rune=narrow["rune"]))["runes"]
        assert foreign["our_rune"] is False
        assert await bob.code("checkrune", {"rune": narrow["rune"]}) == 1501
        assert await bob.code("createrune", {"rune": narrow["rune"], "restrictions": "readonly"}) == 1501


async def test_a_blacklisted_rune_counts_no_more(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        runes = [await made(alice) for _ in range(5)]
        assert await alice.call("blacklistrune", start=1, end=3) == {"blacklist": [{"start": 1, "end": 3}]}
        listed = await alice.call("blacklistrune", start=2, relist=True)
        assert listed == {"blacklist": [{"start": 1, "end": 1}, {"start": 3, "end": 3}]}
        await net.stop("alice")
        await net.start("alice")
        again = Client(net["alice"])
        replies = [await again.reply("checkrune", {"rune": rune}) for rune in runes]
        codes = [reply.get("error", {"code": 0})["code"] for reply in replies]
        assert codes == [0, 1503, 0, 1503, 0]
        for part in (await again.call("blacklistrune"))["blacklist"]:
            check("blacklistrune", part)
        assert await again.code("blacklistrune", {"end": 3}) == -32602


@pytest.mark.parametrize(
    "params",
    [{"rune": "x"}, {"restrictions": "all"}, {"restrictions": [["getinfo"]]}, {"restrictions": ["a=1"]}],
)
async def test_what_is_no_rune_is_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    async with network(tmp_path, "alice") as net:
        assert await Client(net["alice"]).code("createrune", params) == -32602


async def test_a_forged_rune_of_any_name_is_refused(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        for digits in (1, 17, 5000):
            forged = str(Rune(bytes(32), (Restriction((Alternative("", "=", "9" * digits),)),)))
            assert await alice.code("checkrune", {"rune": forged}) == 1501
