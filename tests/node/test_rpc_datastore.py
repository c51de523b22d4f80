"""The commands about what programs keep in the node."""

from pathlib import Path
from typing import Any

import pytest

from tests.node.line import network
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client


async def test_values_are_kept_replaced_and_listed(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        first = check("datastore", await alice.call("datastore", key=["a", "b"], string="one"))
        assert first == {"key": ["a", "b"], "generation": 0, "hex": b"one".hex(), "string": "one"}
        more = await alice.call("datastore", key=["a", "b"], hex="ff", mode="must-append", generation=0)
        assert more == {"key": ["a", "b"], "generation": 1, "hex": b"one".hex() + "ff"}
        await alice.call("datastore", key="z", string="two", mode="create-or-replace")
        await net.stop("alice")
        await net.start("alice")
        again = Client(net["alice"])
        top = (await again.call("listdatastore"))["datastore"]
        assert top[0] == {"key": ["a"]}
        assert top[1]["string"] == "two"
        assert (await again.call("listdatastore", key="a"))["datastore"] == [more]
        assert (await again.call("listdatastore", key=["a", "b"]))["datastore"] == [more]
        assert (await again.call("listdatastore", key="nosuch"))["datastore"] == []
        usage = {path: await again.call("datastoreusage", key=list(path)) for path in ("", "a", "z")}
        assert {
            path: check("datastoreusage", each["datastoreusage"])["total_bytes"]
            for path, each in usage.items()
        } == {"": 11, "a": 7, "z": 4}
        assert await again.call("deldatastore", key=["a", "b"]) == more
        assert [each["key"] for each in (await again.call("listdatastore"))["datastore"]] == [["z"]]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("datastore", {"key": "a", "string": "x"}, 1202),
        ("datastore", {"key": "b", "string": "x", "mode": "must-replace"}, 1203),
        ("datastore", {"key": "a", "string": "x", "mode": "must-replace", "generation": 7}, 1204),
        ("datastore", {"key": "p", "string": "x"}, 1205),
        ("datastore", {"key": ["a", "c"], "string": "x"}, 1206),
        ("datastore", {"key": "b"}, -32602),
        ("datastore", {"key": "b", "string": "x", "hex": "00"}, -32602),
        ("datastore", {"key": "b", "string": "x", "mode": "maybe"}, -32602),
        ("datastore", {"key": "b", "string": "x", "generation": 1}, -32602),
        ("datastore", {"key": [], "string": "x"}, -32602),
        ("deldatastore", {"key": "b"}, 1200),
        ("deldatastore", {"key": "a", "generation": 3}, 1201),
    ],
)
async def test_a_refusal_has_its_number(
    tmp_path: Path, method: str, params: dict[str, Any], code: int
) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await alice.call("datastore", key="a", string="here")
        await alice.call("datastore", key=["p", "q"], string="here")
        assert await alice.code(method, params) == code
