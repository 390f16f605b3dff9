"""The entry point of the command `iip`."""
from __future__ import annotations

import importlib.util
import sys


def main() -> int | None:
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"iip: the command line needs {' and '.join(missing)}: pip install 'iip[cli]'", file=sys.stderr)
        return 2
    from iip.cli.app import cli

    cli(prog_name="iip")
    return 0


if __name__ == "__main__":
    sys.exit(main())
