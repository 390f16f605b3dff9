"""Repeat runs of the fuzzers:

    python -m tests.fuzz.replay hostile 17             one run, as the tests do it
    python -m tests.fuzz.replay mutated 0 --runs 500   seeds 0 to 499

After a crash of the interpreter, build/fuzz-last-run names the run that it happened in.
"""
import argparse
import faulthandler
import sys
import time

from tests.fuzz.cases import KINDS, PACKETS, run


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.replay")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--packets", type=int, default=PACKETS, help="packets of one run")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds from SEED on; stops at the first failure")
    args = parser.parse_args()
    faulthandler.enable()
    total, begin = 0, time.perf_counter()
    for seed in range(args.seed, args.seed + args.runs):
        result = run(args.kind, seed, args.packets)
        total += result if isinstance(result, int) else args.packets
        if args.runs == 1 and not isinstance(result, int):
            print(result.stats.nonzero())
    seconds = time.perf_counter() - begin
    print(f"{args.runs} runs, {total} packets, {total / seconds:.0f} packets/s")


if __name__ == "__main__":
    sys.exit(main())
