"""The chart for README and docs, drawn by hand: bars on an opaque card, legible on light and dark pages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .rig import RigError

WIDTH, HEIGHT = 960, 424
CARD, INK, PALE, OURS, THEIRS = "#fbfcfe", "#1d2739", "#5b6780", "#2f5fa8", "#aebbd0"
BAR, GAP = 17, 8
FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
CUT = 2.5  # a bar longer than this many times the floor `low` is cut, and says so by its broken end
NAMES = {
    "empty": "Framegate, no plugin",
    "empty, log": "… with its log",
    "keys": "Framegate, keys",
    "keys, log": "… with its log",
    "looked": "… read by a plugin",
    "low": "aiohttp, tuned",
    "app": "aiohttp, naive",
}
ORDER = ("nginx", "empty", "empty, log", "keys", "keys, log", "looked", "low", "app", "Portkey", "LiteLLM")


def svg(result: Mapping[str, Any]) -> str:
    """Three panels: a small request's CPU, an image's CPU, an image's memory."""
    small, image = _workload(result, "small JSON"), _workload(result, "image 1.5 MB")
    panels = [
        *_panel(small, "cpu_us", "CPU for a small request", "µs", 24, 88),
        *_panel(image, "cpu_us", "CPU for a 1.5 MB image", "µs", 496, 88),
        *_panel(image, "peak_mb", "Memory at its peak, 32 such images in flight", "MB", 496, 276, thin=True),
    ]
    machine = result["machine"]
    busy = "; NOISY: the machine was busy with other work" if result["warnings"] else ""
    foot = f"{result['date']}; medians; one core for the proxy; {machine['cores']}, Python {machine['python']}{busy}"
    label = (
        "Bars: what Framegate takes of CPU and memory beside nginx, plain aiohttp and other gateways; less is better."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" '
            f'role="img" aria-label="{label}">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" fill="{CARD}"/>',
            _text(24, 36, "What a proxy costs", 18, INK, weight=600),
            _text(24, 56, "shorter is better", 12, PALE),
            *panels,
            _text(24, HEIGHT - 14, foot, 10.5, PALE),
            "</svg>",
            "",
        ]
    )


def png(drawing: str, path: Path) -> None:
    """The same as a PNG of twice the size, by chromium. Raises RigError when there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise RigError("chromium is not installed: apt-get install chromium")
    with TemporaryDirectory() as folder:
        page = Path(folder) / "chart.html"
        page.write_text(f'<meta charset="utf-8"><body style="margin:0;background:transparent">{drawing}')
        words = [
            *(
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--force-device-scale-factor=2",
            ),
            *("--default-background-color=00000000", f"--user-data-dir={folder}/profile"),
            *(f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={path}", page.as_uri()),
        ]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if not path.exists():
            raise RigError(f"chromium ended with {ran.returncode}: {ran.stderr.strip()[-300:]}")


def _workload(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((one["rows"] for one in result["workloads"] if one["name"] == name), {})


def _panel(
    rows: Mapping[str, Any], figure: str, title: str, unit: str, x: int, y: int, *, thin: bool = False
) -> Iterator[str]:
    shown = [(name, rows[name]["figures"][figure]["median"]) for name in ORDER if figure in _figures(rows, name)]
    if not shown:
        return
    floor = dict(shown).get("low", shown[-1][1])
    longest = min(max(value for _, value in shown), floor * CUT)
    yield _text(x, y, f"{title}, {unit}", 13, INK, weight=600)
    left, room, bar = x + 136, 210, 9 if thin else BAR
    top = y + 14
    for name, value in shown:
        width = room * min(value, longest) / longest
        fill = OURS if name in NAMES and "aiohttp" not in NAMES[name] else THEIRS
        middle = top + bar / 2 + 4
        yield _text(left - 8, middle, NAMES.get(name, name), 11.5, INK, anchor="end")
        yield f'<rect x="{left}" y="{top}" width="{max(1.5, width):.1f}" height="{bar}" rx="2" fill="{fill}"/>'
        if value > longest:
            yield (f'<path d="M{left + width - 22:.1f} {top + bar + 2}l6 -{bar + 4}h5l-6 {bar + 4}z" fill="{CARD}"/>')
        yield _text(left + width + 7, middle, f"{value:,.0f}", 11.5, INK)
        top += bar + (6 if thin else GAP)


def _figures(rows: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = rows.get(name, {}).get("figures", {})
    return found


def _text(x: float, y: float, words: str, size: float, fill: str, *, weight: int = 400, anchor: str = "start") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
