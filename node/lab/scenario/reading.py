"""From a file to a scenario, and back; what is wrong with it is said with its line.

The parser of TOML names the line of what is no TOML. For what is TOML but no scenario, the line is
looked for in the text: the header of the table, then the key in it.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from htlc.limits import opener_cost_msat
from htlc.transactions import ChannelFormat
from node.chain.embedded import DEFAULT_FEERATE_PER_KW
from node.lab.fees.model import FeePolicy
from node.lab.plugins import FEES, TRAFFIC, BadPlugin, names_of, plugin
from node.lab.scenario.model import ChannelSpec, Close, Event, Misfit, Pay, Scenario, SetPolicy
from node.lab.traffic.model import TrafficModel

_SUFFIX = ".toml"
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w-]+)")
_KEY = re.compile(r"\s*([\w-]+)\s*[=.]")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)| \(at end of document\)")
_PLACE = re.compile(r" - at `\$\.?(.*)`")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_STEPS = re.compile(r"(\w+)(?:\[(\d+)\])?|\[(\d+)\]")

_Place = tuple[str | int, ...]


class BadScenario(Exception):
    """This is no scenario; the text names the place and the reason."""

    def __init__(self, source: str, line: int | None, why: str) -> None:
        super().__init__(f"{source}, line {line}: {why}" if line else f"{source}: {why}")
        self.source, self.line, self.why = source, line, why


class NoScenario(Exception):
    """There is no file and no house scenario of this name."""

    def __init__(self, name: str) -> None:
        known = ", ".join(sorted(house_scenarios()))
        super().__init__(f"there is no file {name}, and no house scenario of that name: there are {known}")


def house_scenarios() -> dict[str, str]:
    """The scenarios that come with Rill: their texts by their names."""
    shelf = files("node.lab.scenario") / "library"
    found = [entry for entry in shelf.iterdir() if entry.name.endswith(_SUFFIX)]
    return {entry.name.removesuffix(_SUFFIX): entry.read_text(encoding="utf-8") for entry in found}


def load_scenario(name: str | Path) -> Scenario:
    """The scenario in a file, or the house's of this name.

    Raises:
        NoScenario: there is neither.
        BadScenario: it is malformed.
    """
    return read_scenario(_text_of(name), str(name))


def located(name: str | Path, wrong: Misfit) -> BadScenario:
    """What turned out to be wrong when a scenario was run, with its line in the file or house scenario."""
    return BadScenario(str(name), _line_of(_text_of(name), wrong.place), wrong.why)


def _text_of(name: str | Path) -> str:
    path = Path(name)
    if path.is_dir():
        raise BadScenario(str(name), None, "it is a directory")
    if path.exists():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise BadScenario(str(name), None, "it is not UTF-8 text") from None
        except OSError as error:
            raise BadScenario(str(name), None, (error.strerror or str(error)).lower()) from None
    text = house_scenarios().get(str(name))
    if text is None:
        raise NoScenario(str(name))
    return text


def read_scenario(text: str, source: str) -> Scenario:
    """The scenario that a text describes.

    Raises:
        BadScenario: with the line, as far as there is one.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1]) if at and at[1] else len(text.splitlines())
        raise BadScenario(source, line, _lower_first(_AT_LINE.sub("", str(error)))) from None
    try:
        scenario = msgspec.convert(raw, Scenario)
        _check(scenario)
    except msgspec.ValidationError as error:
        place = _place_in(str(error))
        raise BadScenario(source, _line_of(text, place), _lower_first(_said(str(error), place))) from None
    except Misfit as wrong:
        raise BadScenario(source, _line_of(text, wrong.place), wrong.why) from None
    return scenario


def _place_in(message: str) -> _Place:
    """Where the values' reader saw the error, as names and numbers."""
    found = _PLACE.search(message)
    steps: list[str | int] = []
    for name, index, bare in _STEPS.findall(found[1]) if found else ():
        steps += [name] if name else []
        steps += [int(number) for number in (index, bare) if number]
    unknown = _UNKNOWN.search(message)
    return (*steps, unknown[1]) if unknown else tuple(steps)


def _said(message: str, place: _Place) -> str:
    words = _PLACE.sub("", message)
    name = next((step for step in reversed(place) if isinstance(step, str)), "")
    return f"{name}: {_lower_first(words)}" if name else words


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _line_of(text: str, place: _Place) -> int | None:
    """The line of the deepest part of a place that the text shows, from 1."""
    shown = [(len(here), -line) for line, here in _places(text) if here and here == place[: len(here)]]
    return -max(shown)[1] if shown else None


def _places(text: str) -> Iterator[tuple[int, _Place]]:
    """Every header and key of a text with its line: tables of a list are counted."""
    counted: Counter[str] = Counter()
    table: _Place = ()
    for line, content in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(content):
            is_list, name = header[1] == "[[", header[2]
            table = (name, counted[name]) if is_list else (name,)
            counted[name] += is_list
            yield line, table
        elif key := _KEY.match(content):
            yield line, (*table, key[1])


# --- what the types cannot say


def _check(scenario: Scenario) -> None:
    """Raises Misfit where names do not fit together."""
    if not scenario.node:
        raise Misfit((), "a scenario has at least one [[node]]")
    seen: set[str] = set()
    for number, node in enumerate(scenario.node):
        if node.name in seen:
            raise Misfit(("node", number, "name"), f"there are two nodes called {node.name}")
        seen.add(node.name)
        if node.fees is not None:
            _check_plugin(FEES, node.fees, "policy", FeePolicy, ("node", number, "fees"))
    for number, channel in enumerate(scenario.channel):
        _check_channel(channel, ("channel", number), seen)
    for number, event in enumerate(scenario.event):
        _check_event(event, ("event", number), scenario)
    for number, traffic in enumerate(scenario.traffic):
        _check_plugin(TRAFFIC, traffic, "model", TrafficModel, ("traffic", number))
        if not scenario.seconds:
            why = "there is traffic, and `seconds` at the top of the file does not say how long it lasts"
            raise Misfit(("traffic", number), why)


def _check_plugin(group: str, table: dict[str, Any], key: str, kind: type[Any], place: _Place) -> None:
    """Whether a table names a plug-in that there is, with options that it has."""
    options = {name: value for name, value in table.items() if name != key}
    if not isinstance(table.get(key), str):
        raise Misfit(place, f"{place[-1] if key == 'policy' else place[0]} needs a {key}: {_some(group)}")
    try:
        plugin(group, table[key], options, kind)
    except BadPlugin as wrong:
        raise Misfit((*place, wrong.option or key), str(wrong)) from None


def _some(group: str) -> str:
    return ", ".join(names_of(group))


def _check_channel(channel: ChannelSpec, place: _Place, names: set[str]) -> None:
    for name in channel.nodes:
        if name not in names:
            raise Misfit((*place, "nodes"), f"there is no node called {name}")
    if channel.nodes[0] == channel.nodes[1]:
        raise Misfit((*place, "nodes"), f"{channel.nodes[0]} cannot have a channel with itself")
    if channel.balance_sat is not None and channel.balance_sat > channel.capacity_sat:
        why = f"a balance of {channel.balance_sat} sat is more than the channel's {channel.capacity_sat}"
        raise Misfit((*place, "balance_sat"), why)
    cost_msat = opener_cost_msat(ChannelFormat.ANCHORS, DEFAULT_FEERATE_PER_KW, 0)
    if channel.balance_msat < cost_msat:
        why = f"{channel.nodes[0]} opens this channel, and needs {cost_msat // 1000} sat of it for its fees"
        raise Misfit((*place, "balance_sat"), why)
    for name in channel.policies:
        if name not in channel.nodes:
            raise Misfit((*place, "policies"), f"{name} is not an end of this channel")


def _check_event(event: Event, place: _Place, scenario: Scenario) -> None:
    for field in ("payer", "payee", "node", "peer", "nodes"):
        named = getattr(event, field, None)
        for name in named if isinstance(named, tuple) else (named,):
            if name is not None and name not in scenario.names:
                raise Misfit((*place, field), f"there is no node called {name}")
    if isinstance(event, Pay) and event.payer == event.payee:
        raise Misfit((*place, "payee"), f"{event.payer} cannot pay itself")
    if isinstance(event, SetPolicy) and event.peer is not None:
        _check_pair((event.node, event.peer), (*place, "peer"), scenario)
    if isinstance(event, Close):
        _check_pair(event.nodes, (*place, "nodes"), scenario)


def _check_pair(pair: tuple[str, str], place: _Place, scenario: Scenario) -> None:
    if not any(set(channel.nodes) == set(pair) for channel in scenario.channel):
        raise Misfit(place, f"{pair[0]} has no channel with {pair[1]}")


# --- writing


def written(scenario: Scenario) -> str:
    """The scenario as TOML that `read_scenario` reads again."""
    top = msgspec.to_builtins(scenario)
    lines = [f"{name} = {_value(top[name])}" for name in ("name", "about", "seed", "seconds") if name in top]
    if scenario.policy != type(scenario.policy)():
        lines += ["", "[policy]", *_pairs(top["policy"])]
    for table in ("node", "channel", "traffic", "event"):
        for entry in top.get(table, ()):
            lines += ["", f"[[{table}]]", *_pairs(entry)]
    return "\n".join(lines) + "\n"


def _pairs(entry: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name} = {_value(value)}" for name, value in entry.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(value)) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return msgspec.json.encode(value).decode()
