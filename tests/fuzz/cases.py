"""The kinds of fuzzing, and how a seed becomes a run of one of them."""
import os
import random
from pathlib import Path

from tests.fuzz.hostile import hostile
from tests.fuzz.mutate import mutated, noise
from tests.fuzz.pair import pair

KINDS = {"mutated": mutated, "hostile": hostile, "noise": noise, "pair": pair}
PACKETS = 2000                    # of one run
TOTAL = int(os.environ.get("IIP_FUZZ_PACKETS", "1000000"))
SHARES = {"mutated": 0.45, "hostile": 0.45, "noise": 0.1}
LAST = Path(os.environ.get("IIP_FUZZ_LAST", "build/fuzz-last-run"))   # survives a crash of the interpreter


def run(kind, seed, packets=PACKETS):
    """One run; it depends on its arguments only. An error names the command that repeats it."""
    command = f"python -m tests.fuzz.replay {kind} {seed} --packets {packets}"
    LAST.parent.mkdir(exist_ok=True)
    LAST.write_text(command + "\n")
    try:
        result = KINDS[kind](random.Random(f"{kind} {seed}"), seed, packets)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\nto repeat it: {command}") from error
    LAST.unlink()
    return result
