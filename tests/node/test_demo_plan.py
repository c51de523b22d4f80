"""What the demo refuses before anything is started, each with a sentence of its own."""

import errno
import socket
from pathlib import Path

import msgspec
import pytest

from node.lab.plan import (
    CAPACITY_SAT,
    BadPlan,
    BeyondMeans,
    FileEmpty,
    FileMissing,
    FileUnreadable,
    NotAFile,
    OutIsSource,
    OutUnwritable,
    Plan,
    PortTaken,
    WrongChunkSizeWish,
    WrongPort,
    WrongPrice,
    WrongSeed,
    WrongWindow,
)
from wire.units import Msat


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    film = tmp_path / "film.bin"
    film.write_bytes(b"a film")
    return Plan(
        film=film,
        name=film.name,
        out=tmp_path / "copy.bin",
        chunk_size=65536,
        price_msat=Msat(100_000),
        window=32,
        seed=0,
        first_port=0,
    )


def refused(plan: Plan, **change: object) -> str:
    """The sentence with which the changed plan is refused."""
    with pytest.raises(BadPlan) as caught:
        msgspec.structs.replace(plan, **change).checked()
    return f"{type(caught.value).__name__}: {caught.value}"


def test_a_good_plan_leaves_nothing_behind(plan: Plan) -> None:
    assert plan.checked() is plan
    assert list(plan.film.parent.iterdir()) == [plan.film]


def test_the_film_must_be_a_file_with_something_in_it(plan: Plan, tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.touch()
    assert refused(plan, film=missing) == f"{FileMissing.__name__}: there is no file {missing}"
    assert refused(plan, film=tmp_path) == f"{NotAFile.__name__}: {tmp_path} is not a regular file"
    assert refused(plan, film=empty).startswith(f"{FileEmpty.__name__}: {empty} is empty")


def test_the_film_must_be_readable(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refused(plan) == f"{FileUnreadable.__name__}: {plan.film} cannot be read: Permission denied"


def test_the_copy_must_be_writable(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "nowhere" / "copy"
    assert refused(plan, out=nowhere).endswith("cannot be written: No such file or directory")
    assert refused(plan, out=tmp_path).startswith(OutUnwritable.__name__)
    assert refused(plan, out=plan.film).startswith(OutIsSource.__name__)
    plan.out.touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert refused(plan).endswith("permission denied")


def test_an_older_copy_survives_the_check(plan: Plan) -> None:
    plan.out.write_bytes(b"an older copy")
    plan.checked()
    assert plan.out.read_bytes() == b"an older copy"


@pytest.mark.parametrize("chunk_size", [-1, 0, 5000, 3 * 16384, 1 << 25])
def test_a_chunk_is_a_power_of_two_of_blocks(plan: Plan, chunk_size: int) -> None:
    assert refused(plan, chunk_size=chunk_size).startswith(WrongChunkSizeWish.__name__)


def test_numbers_are_bounded(plan: Plan) -> None:
    assert refused(plan, price_msat=Msat(0)).startswith(WrongPrice.__name__)
    assert refused(plan, price_msat=Msat(2**64)).startswith(WrongPrice.__name__)
    assert refused(plan, window=0).startswith(WrongWindow.__name__)
    assert refused(plan, window=401).startswith(WrongWindow.__name__)
    assert refused(plan, seed=-1).startswith(WrongSeed.__name__)


def test_the_film_must_not_cost_more_than_there_is(plan: Plan) -> None:
    assert refused(plan, price_msat=Msat(CAPACITY_SAT * 500 + 1)).startswith(BeyondMeans.__name__)


def test_a_port_must_be_free(plan: Plan) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert refused(plan, first_port=taken) == f"{PortTaken.__name__}: port {taken} on 127.0.0.1 is taken"
    assert refused(plan, first_port=80).startswith(WrongPort.__name__)
    assert refused(plan, first_port=65532).startswith(WrongPort.__name__)
