"""Fee policies, traffic models and experiments by name: each is one class, found by entry point.

A plug-in is a `msgspec.Struct` whose fields are its options; a file that gives it an option it does
not have, or of another kind, is told so. To add one, a package names its class under
`rill.fees`, `rill.traffic` or `rill.experiments` in its `[project.entry-points]`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import msgspec

FEES, TRAFFIC, EXPERIMENTS = "rill.fees", "rill.traffic", "rill.experiments"
_NOUNS = {FEES: "fee policy", TRAFFIC: "traffic model", EXPERIMENTS: "experiment"}

P = TypeVar("P")


class BadPlugin(Exception):
    """There is no such plug-in, or not with these options; `option` is the one that it does not take."""

    def __init__(self, why: str, option: str = "") -> None:
        super().__init__(why)
        self.option = option


@cache
def _shelf(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=group))}


def names_of(group: str) -> list[str]:
    """The plug-ins of a group."""
    return list(_shelf(group))


def plugin_class(group: str, name: str) -> Any:
    """The class of this name.

    Raises:
        BadPlugin: there is none.
    """
    entry = _shelf(group).get(name)
    if entry is None:
        raise BadPlugin(f"there is no {_NOUNS[group]} {name!r}: there are {', '.join(_shelf(group))}")
    return entry.load()


def plugin(group: str, name: str, options: Mapping[str, Any], kind: type[P]) -> P:
    """The plug-in of this name with these options.

    Raises:
        BadPlugin: there is none, or it does not take them.
    """
    made = plugin_class(group, name)
    for option in options:
        if option not in made.__struct_fields__:
            known = ", ".join(made.__struct_fields__) or "none"
            why = f"the {_NOUNS[group]} {name} has no option {option!r}: it has {known}"
            raise BadPlugin(why, option)
    try:
        found = msgspec.convert(dict(options), made, strict=False)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at ")
        option = place.strip("`$.").partition("[")[0]
        why = f"{option}: " * bool(option) + f"{said[:1].lower()}{said[1:]}"
        raise BadPlugin(f"the {_NOUNS[group]} {name}: {why}", option) from None
    assert isinstance(found, kind), f"{name} is a {_NOUNS[group]}"
    return found
