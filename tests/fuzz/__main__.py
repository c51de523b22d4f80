"""`make fuzz SECONDS=60`: every decoder, then a live node's socket. Exit 1 on the first broken law.

python -m tests.fuzz SECONDS [SEED]          all targets, the seconds shared between them
python -m tests.fuzz.one NAME SECONDS SEED   one decoder under atheris
"""

import importlib.util
import subprocess
import sys
import time

import trio

from tests.fuzz.engine import Undeclared, run_plain
from tests.fuzz.live import NodeBroke, fuzz_node
from tests.fuzz.targets import targets

SHARE_OF_LIVE_NODE = 0.3
LEAST_GUIDED_SECONDS = 5
EXECUTED = "stat::number_of_executed_units"


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time()) & 0xFFFFFF
    print(f"seed {seed}")
    names = list(targets())
    each = seconds * (1 - SHARE_OF_LIVE_NODE) / len(names)
    is_guided = importlib.util.find_spec("atheris") is not None and each >= LEAST_GUIDED_SECONDS
    try:
        for name in names:
            if is_guided:
                _guided(name, int(each), seed)
            else:
                count = run_plain(targets()[name], each, seed)
                print(f"{name}: {count} inputs", flush=True)
        sent = trio.run(fuzz_node, seconds * SHARE_OF_LIVE_NODE, seed)
        print(f"live node: {sent} messages, and it still answers")
    except (Undeclared, NodeBroke) as broken:
        print(f"broken: {broken} (seed {seed})", file=sys.stderr)
        return 1
    return 0


def _guided(name: str, seconds: int, seed: int) -> None:
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(seconds), str(seed)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    counted = [
        line for line in ended.stderr.splitlines() if line.startswith("stat::number_of_executed_units")
    ]
    if ended.returncode:
        raise Undeclared(f"{name}: {ended.stderr[-2000:]}")
    print(f"{name}: {counted[0].split()[-1] if counted else '?'} inputs, guided", flush=True)


sys.exit(main())
