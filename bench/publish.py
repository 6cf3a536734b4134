"""Make a result the one that the docs show: `python -m bench.publish bench/results/latest.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import chart, report
from .rig import ROOT, RigError
from .run import void

DOCS = ROOT / "docs"
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"


def page(text: str, result: Mapping[str, Any]) -> str:
    """The page with the result's table in place of the one it had."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{report.markdown(result)}\n{END}{after}"


def main() -> int:
    """Write docs/performance.json, its table, and the chart. A void result is refused."""
    result = json.loads(Path(sys.argv[1]).read_text())
    if broken := void(result):
        print("publish: void: " + "; ".join(broken), file=sys.stderr)
        return 1
    drawing = chart.svg(result)
    try:
        chart.png(drawing, DOCS / "performance.png")
    except RigError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    (DOCS / "performance.svg").write_text(drawing)
    (DOCS / "performance.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    table = DOCS / "performance.md"
    table.write_text(page(table.read_text(), result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
