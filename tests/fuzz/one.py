"""One decoder under atheris, in a process of its own: atheris ends it."""

import sys

from tests.fuzz.engine import run_guided

run_guided(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
