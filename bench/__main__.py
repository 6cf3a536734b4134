"""The command of `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import alone, catalogue, report
from .rig import ROOT, RigError
from .rows import Row, others
from .run import ground, run, void
from .workloads import Scale

FULL = Scale()
QUICK = Scale(
    rounds=2,
    once=("rehosted 1.5 MB", "SSE, 3 pictures", "edits", "held", "start"),
    warm=0,
    streams=3,
    uploads=2,
    alone=200,
    slow=6,
    held=1000,
    hold=2.0,
)
INTERRUPTED = 130  # what shells say of a process that Ctrl-C ended
RESULTS = ROOT / "bench" / "results"


def main() -> int:
    """Measure, print, write the JSON. Exit status 1 when a run was void, 2 when something is missing."""
    options = _parser().parse_args()
    scale = QUICK if options.quick else FULL
    try:
        with ground(scale) as rig:
            if options.plugin:
                print(alone.compared(rig, options.plugin, options.settings, _say))
                return 0
            if options.profile:
                print(alone.profiled(rig, _say))
                return 0
            peers, missing = _peers(options, rig.fast)
            plan, left_out = catalogue.plan(quick=options.quick, peers=peers)
            if options.only:
                plan = [one for one in plan if one[0].name.startswith(options.only)]
                missing.append(f"all but '{options.only}'")
            result = run(rig, plan, quick=options.quick, left_out=left_out + missing, say=_say)
    except RigError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # all that was started has been ended on the way here
        return INTERRUPTED
    print(report.terminal(result))
    path: Path = options.output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\nWritten to {path}")
    return 1 if void(result) else 0


def _peers(options: argparse.Namespace, upstream: int) -> tuple[list[Row], list[str]]:
    """Those that were asked for and can be had, and in words the others."""
    found, missing = [], []
    if not options.litellm:
        missing.append("LiteLLM: ask with LITELLM=1")
    if not options.portkey:
        missing.append("Portkey: ask with PORTKEY=1")
    for wanted, make in ((options.litellm, others.litellm), (options.portkey, lambda: others.portkey(upstream))):
        if not wanted:
            continue
        try:
            found.append(make())
        except RigError as error:
            missing.append(f"could not be had: {error}")
    return found, missing


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure Framegate beside others, in one run.")

    def flag(name: str, text: str) -> None:
        set_already = os.environ.get(name.upper(), "") not in ("", "0")
        parser.add_argument(f"--{name}", action="store_true", default=set_already, help=f"{text} ({name.upper()}=1)")

    flag("quick", "about one minute instead of ten")
    flag("litellm", "LiteLLM too, set up from PyPI in a venv of its own")
    flag("portkey", "Portkey too, set up from npm in a folder of its own")
    flag("profile", "where the time of a small request goes, by perf, instead of measuring")
    only = "only workloads whose names begin so, as in 'rehosted' (ONLY=...)"
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help=only)
    plugin = "what one plugin costs, instead of all else: an installed one's name or module:Class (PLUGIN=...)"
    parser.add_argument("--plugin", default=os.environ.get("PLUGIN", ""), help=plugin)
    settings = "its settings, as TOML (SETTINGS=...)"
    parser.add_argument("--settings", default=os.environ.get("SETTINGS", ""), help=settings)
    output = "where the JSON goes (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=RESULTS / "latest.json", help=output)
    return parser


def _say(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
