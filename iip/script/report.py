"""Results for other programs."""
from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from iip.script.play import FAILED, UNSUPPORTED, Result


def junit(results: Iterable[Result]) -> str:
    """JUnit XML: what is unsupported counts as skipped."""
    results = list(results)
    failed = sum(r.outcome == FAILED for r in results)
    skipped = sum(r.outcome == UNSUPPORTED for r in results)
    head = (f'<testsuite name="iip script" tests="{len(results)}" failures="{failed}" skipped="{skipped}" errors="0" '
            f'time="{sum(r.seconds for r in results):.3f}">')
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>', head, *map(_case, results), "</testsuite>", ""])


def _case(result: Result) -> str:
    name = quoteattr(f"{result.path} [IPv{result.version}]")
    start = f'  <testcase classname="iip.script" name={name} time="{result.seconds:.3f}"'
    if result.outcome == FAILED:
        return f"{start}><failure message={quoteattr(result.message)}>{_text(result.report())}</failure></testcase>"
    if result.outcome == UNSUPPORTED:
        return f"{start}><skipped message={quoteattr(result.message)}/></testcase>"
    return f"{start}/>"


def _text(text: str) -> str:
    return escape("".join(c if c in "\t\n" or c >= " " else "?" for c in text))
