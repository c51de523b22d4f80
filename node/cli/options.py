"""Options by a table: from a command line and configuration files to values, as lightningd reads them.

An option is `--name=value`, `--name value` or, if it takes none, `--name`; a line of a file is the
same without the dashes, or `include FILE`. What is said later is stronger, and the command line is
strongest; an option that may be repeated gathers what all of them say. typer was no choice: its
options are parameters of a function, and here there are sixty, also to be read from files, listed
by a command and named when one is misspelled.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
FROM_COMMAND_LINE = "cmdline"
MOST_PORT = 65_535
LONGEST_SECONDS = 10**9
_AMOUNT = re.compile(r"([0-9]{1,16})(msat|sat|)")


class BadOption(Exception):
    """What the user wrote cannot be meant; the text says what, and where."""


class Kind(NamedTuple):
    """What a value is: what to call it, how it is read, and under which name `listconfigs` shows it."""

    what: str
    read: Callable[[str], Any]
    shown_as: str


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError
    return int(text)


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text]


def _amount(text: str) -> int:
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError
    return int(found[1]) * (1000 if found[2] == "sat" else 1)


def _hex(length: int) -> Callable[[str], bytes]:
    def read(text: str) -> bytes:
        raw = bytes.fromhex(text)
        if len(raw) != length:
            raise ValueError
        return raw

    return read


def _one_of(*words: str) -> Kind:
    def read(text: str) -> str:
        return {word: word for word in words}[text]

    return Kind(f"one of {', '.join(words)}", read, "value_str")


def between(least: int, most: int) -> Kind:
    """A number within bounds."""

    def read(text: str) -> int:
        number = _number(text)
        if not least <= number <= most:
            raise ValueError
        return number

    return Kind(f"a number from {least} to {most}", read, "value_int")


def _place(text: str) -> str:
    _, colon, port = text.rpartition(":")
    if colon and port.isdigit() and int(port) > MOST_PORT:
        raise ValueError
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < LONGEST_SECONDS:
        raise ValueError
    return seconds


FLAG = Kind("without a value", lambda _: True, "set")
TEXT = Kind("a text", str, "value_str")
FILE = Kind("a path", lambda text: Path(text).expanduser(), "value_str")
NUMBER = Kind("a number", _number, "value_int")
SECONDS = Kind("a number of seconds", _seconds, "value_str")
PORT = between(0, MOST_PORT)
PLACE = Kind("HOST[:PORT], with a port up to 65535", _place, "value_str")
TRUTH = Kind("'true' or 'false'", _truth, "value_bool")
AMOUNT = Kind("an amount in msat", _amount, "value_msat")
COLOR = Kind("six hex digits", _hex(3), "value_str")
SECRET = Kind("64 hex digits", _hex(32), "value_str")
one_of = _one_of


class Option(NamedTuple):
    """A row of the table."""

    name: str
    kind: Kind
    help: str
    metavar: str = ""
    is_repeated: bool = False
    is_hidden: bool = False  # its value, from `listconfigs`
    is_ignored: bool = False  # lightningd has it, and here it means nothing
    is_for_developers: bool = False
    is_shown_once: bool = False  # by `listconfigs`, though it may be repeated


class Said(NamedTuple):
    """One value, and where it was written."""

    option: Option
    value: Any
    text: str
    source: str


class Settings:
    """Everything that was said, the weakest first."""

    def __init__(self, said: Iterable[Said]) -> None:
        self.said = tuple(said)

    def all(self, name: str) -> list[Any]:
        """Every value of an option that may be repeated."""
        return [each.value for each in self.said if each.option.name == name]

    def get(self, name: str, default: T) -> T:
        """The value of an option, or what holds without it."""
        values = self.all(name)
        value: T = values[-1] if values else default
        return value

    def find(self, name: str) -> Any:
        """The value of an option, or None."""
        return self.get(name, None)

    def has(self, name: str) -> bool:
        """Whether a flag is set."""
        return bool(self.all(name))

    def views(self) -> dict[str, dict[str, Any]]:
        """What `listconfigs` shows of the options that were given."""
        return {name: self._view(name) for name in dict.fromkeys(each.option.name for each in self.said)}

    def _view(self, name: str) -> dict[str, Any]:
        found = [each for each in self.said if each.option.name == name]
        option, shown_as = found[-1].option, found[-1].option.kind.shown_as
        values = [_shown(each) for each in found]
        if option.is_repeated and not option.is_shown_once:
            plural = shown_as.replace("value_", "values_")
            return {plural: values, "sources": [each.source for each in found]}
        return {shown_as: values[-1], "source": found[-1].source}


def _shown(said: Said) -> Any:
    if said.option.is_hidden:
        return "..."
    return said.text if said.option.kind.shown_as == "value_str" else said.value


class Table:
    """The options that a command knows."""

    def __init__(self, options: Iterable[Option]) -> None:
        self.by_name = {option.name: option for option in options}

    def read_command_line(self, arguments: Sequence[str]) -> Iterator[Said]:
        """What a command line says.

        Raises:
            BadOption: it cannot be meant.
        """
        rest = iter(arguments)
        for argument in rest:
            if not argument.startswith("--"):
                raise BadOption(f"{argument!r} is no option: options begin with --")
            name, equals, text = argument[2:].partition("=")
            option = self._find(name, "--")
            if option.kind is not FLAG and not equals:
                text = next(rest, "")
                if not text:
                    raise BadOption(f"--{name} needs a value")
            yield _said(option, text if equals or option.kind is not FLAG else None, f"--{name}", "")

    def read_file(self, path: Path, depth: int = 0) -> Iterator[Said]:
        """What a configuration file says, and the files that it includes.

        Raises:
            BadOption: it cannot be read, or meant.
        """
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadOption(f"the configuration file {path} cannot be read: {_reason(error)}") from None
        if depth > MOST_INCLUDED:
            raise BadOption(f"{path}: files include one another without end")
        for number, line in enumerate(lines, start=1):
            content, place = line.strip(), f"{path}:{number}"
            word, _, rest = content.partition(" ")
            if word == "include":
                yield from self.read_file(path.parent / Path(rest.strip()).expanduser(), depth + 1)
            elif content and not content.startswith("#"):
                name, equals, text = content.partition("=")
                option = self._find(name.strip(), f"{place}: ")
                yield _said(option, text.strip() if equals else None, f"{place}: {option.name}", place)

    def _find(self, name: str, prefix: str) -> Option:
        option = self.by_name.get(name)
        if option is None:
            import difflib

            near = difflib.get_close_matches(name, self.by_name, n=1, cutoff=0)
            raise BadOption(f"{prefix}{name} is no option of this command; the nearest is --{near[0]}")
        return option


MOST_INCLUDED = 10


def _said(option: Option, text: str | None, shown: str, source: str) -> Said:
    if option.kind is FLAG and text is not None:
        raise BadOption(f"{shown} takes no value")
    if option.kind is not FLAG and text is None:
        raise BadOption(f"{shown} needs a value")
    try:
        return Said(option, option.kind.read(text or ""), text or "", source or FROM_COMMAND_LINE)
    except (ValueError, KeyError):
        raise BadOption(f"{shown} is {text!r}, not {option.kind.what}") from None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is no text"
