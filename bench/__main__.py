"""Run the measurements and keep their results:

    python -m bench                     # all suites, into bench/results/suites.json
    python -m bench -k pingpong         # some; arguments go to pytest
    python -m bench --quick             # only to see that everything runs: keeps nothing

The results name the machine, its processor, Python and the commit. Measure on a machine that does nothing else.
"""
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def main(arguments):
    options = [str(HERE), "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    if "--quick" in arguments:
        options.append("--benchmark-disable")
    else:
        (HERE / "results").mkdir(exist_ok=True)
        options += ["--benchmark-json", str(HERE / "results" / "suites.json"), "--benchmark-group-by=group",
                    "--benchmark-columns=median,iqr,min,rounds", "--benchmark-sort=name", "--benchmark-disable-gc"]
    return pytest.main(options + arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
