"""What is shipped, and what the README promises of it."""

import re
import tomllib
from importlib.resources import files

from node.daemon.version import OWN
from tests.house.sources import HOUSE, ROOMS

README = (HOUSE / "README.md").read_text(encoding="utf-8")
MAKEFILE = (HOUSE / "Makefile").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))

FILM_MOST_BYTES = 1 << 20


def test_the_film_is_small_and_plays_from_its_first_chunk() -> None:
    film = files("node.stream.film").joinpath("rill.mp4").read_bytes()
    assert len(film) <= FILM_MOST_BYTES
    assert film.index(b"ftyp") < film.index(b"moov") < film.index(b"mdat")
    assert film.index(b"mdat") < 64 * 1024


def test_every_room_is_shipped_and_typed() -> None:
    assert set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(ROOMS)
    assert all((HOUSE / room / "py.typed").exists() for room in ROOMS)


def test_the_command_is_rill() -> None:
    assert PYPROJECT["project"]["name"] == "rill-lightning"
    assert PYPROJECT["project"]["scripts"] == {"rill": "node.cli.main:main"}


def test_a_node_tells_the_version_that_is_shipped() -> None:
    assert PYPROJECT["project"]["version"] == OWN


def test_every_make_target_of_the_readme_exists() -> None:
    asked = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test"} <= asked <= targets


def test_every_link_of_the_readme_leads_somewhere() -> None:
    local = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert all((HOUSE / link.partition("#")[0]).exists() for link in local), local
