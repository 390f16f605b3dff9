"""What to say when iip is imported without its compiled modules."""
from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path


def require_compiled(module: str = "iip.engine") -> None:
    """Raise an ImportError that says what to do, unless the extension `module` can be found."""
    if find_spec(module) is not None:
        return
    here = Path(__file__).parent
    source = here.joinpath(*module.split(".")[1:])
    others = sorted(path.name for path in source.parent.glob(source.name + ".*.so"))
    if source.with_suffix(".pyx").exists():
        remedy = "this is a source checkout: run `python setup.py build_ext --inplace` in it, or `pip install .`"
    else:
        remedy = "install it again for this interpreter: `pip install --force-reinstall iip`"
    found = f"; found {', '.join(others)}, this interpreter loads *{EXTENSION_SUFFIXES[0]}" if others else ""
    raise ImportError(f"iip is not compiled: {module} is missing in {here}{found}; {remedy}", name=module)
