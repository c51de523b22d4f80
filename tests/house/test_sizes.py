"""The size budget: short functions, files that one can hold in the head, empty package files."""

import ast
from statistics import median, quantiles

from tests.house.sources import ROOMS, functions, sources

FUNCTION_MEDIAN = 8
FUNCTION_P95 = 35
FUNCTION_MOST = 60
FILE_MOST = 600


def test_functions_are_short_in_the_main() -> None:
    lengths = [function.lines for source in sources(*ROOMS) for function in functions(source)]
    assert median(lengths) <= FUNCTION_MEDIAN
    assert quantiles(lengths, n=20)[-1] <= FUNCTION_P95


def test_no_function_is_long() -> None:
    found = [f for source in sources(*ROOMS, "tests") for f in functions(source)]
    long = [f"{f.path}: {f.name} has {f.lines} lines" for f in found if f.lines > FUNCTION_MOST]
    assert not long, "\n".join(long)


def test_no_file_is_long() -> None:
    found = sources(*ROOMS, "tests")
    long = [f"{source.path} has {source.lines} lines" for source in found if source.lines > FILE_MOST]
    assert not long, "\n".join(long)


def test_package_files_are_empty() -> None:
    packages = [source for source in sources(*ROOMS, "tests") if source.path.endswith("__init__.py")]
    full = [source.path for source in packages if not _is_docstring(source.tree)]
    assert not full, f"a package file holds code: {full}"


def _is_docstring(tree: ast.Module) -> bool:
    return len(tree.body) == (ast.get_docstring(tree, clean=False) is not None)
