"""Results as tables: for a terminal, and in Markdown for the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .figures import BASE, FIGURES

NEVER = ("others",)  # in the JSON; a warning speaks of it
HIDDEN = {"small JSON": ("alone_ms",), "SSE, 100 events": ("first_ms", "rps"), "edits": ("rps",)}
VERDICT = {True: "pass", False: "FALLS SHORT", None: "not measured"}
RATIO = "x low"


def terminal(result: Mapping[str, Any]) -> str:
    """The whole result, in columns."""
    lines = [_head(result), *(f"! {warning}" for warning in result["warnings"])]
    for workload in result["workloads"]:
        cells = list(_table(workload))
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        lines += ["", f"{workload['name']}: {workload['what']}"]
        for row in cells:
            padded = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  " + "  ".join(padded).rstrip())
        lines += [f"  void: {name}: {row['void']}" for name, row in workload["rows"].items() if row["void"]]
    lines += ["", "Goals (medians; ratios are those of rounds of this run)"]
    for goal in result["goals"]:
        lines.append(f"  {VERDICT[goal['passed']]:12}  {_seen(goal['seen']):>8}  {goal['goal']}")
    lines += ["", *(f"Left out: {one}" for one in result["left_out"])]
    return "\n".join(lines)


def markdown(result: Mapping[str, Any]) -> str:
    """The same for the docs, medians with the least and the most."""
    lines = [_head(result), ""]
    lines += [line for warning in result["warnings"] for line in (f"*{warning[0].upper()}{warning[1:]}.*", "")]
    for workload in result["workloads"]:
        head, *rows = _table(workload)
        lines += [
            f"### {workload['name'][0].upper()}{workload['name'][1:]}",
            "",
            f"{workload['what'][0].upper()}{workload['what'][1:]}.",
            "",
        ]
        lines += [_line(head), _line(["---", *("---:" for _ in head[1:])])]
        lines += [_line(row) for row in rows] + [""]
    lines += ["### Goals", "", _line(["goal", "seen", ""]), _line(["---", "---:", "---"])]
    lines += [_line([goal["goal"], _seen(goal["seen"]), VERDICT[goal["passed"]].lower()]) for goal in result["goals"]]
    if result["left_out"]:
        lines += ["", "Left out:", "", *(f"* {one}" for one in result["left_out"])]
    return "\n".join(lines) + "\n"


def _head(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    tools = ", ".join(f"{name} {machine[name]}" for name in ("aiohttp", "uvloop", "nginx", "wrk") if name in machine)
    kind = "a quick run" if result["quick"] else "a full run"
    return (
        f"{result['date']}, {kind} of {result['seconds']} s. {machine['cores']}, {machine['system']}, "
        f"Python {machine['python']}, {tools}."
    )


def _table(workload: Mapping[str, Any]) -> Iterator[list[str]]:
    rows: Mapping[str, Any] = workload["rows"]
    there = {figure for row in rows.values() for figure in row["figures"]} - {*NEVER, *HIDDEN.get(workload["name"], ())}
    shown = [figure for figure in FIGURES if figure in there]
    compared = BASE in rows and "cpu_us" in shown
    yield ["", *([RATIO] if compared else []), *(FIGURES[figure][0] for figure in shown)]
    for name, row in rows.items():
        if row["void"]:
            yield [name, *(["void"] if compared else []), *("void" for _ in shown)]
            continue
        ratio = "1" if name == BASE else _spread(row["x"].get(BASE, {}).get("cpu_us"), 2)
        yield [
            name,
            *([ratio] if compared else []),
            *(_spread(row["figures"].get(figure), FIGURES[figure][1]) for figure in shown),
        ]


def _spread(spread: Mapping[str, float] | None, digits: int) -> str:
    if spread is None:
        return "-"
    middle, least, most = (f"{spread[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return middle if least == most else f"{middle} ({least}..{most})"


def _seen(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
