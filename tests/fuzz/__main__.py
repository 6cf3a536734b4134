"""Fuzz one target, guided by what its code runs through: `python -m tests.fuzz scanner [libFuzzer's options]`.

What it finds interesting is kept in .fuzz/, and is where the next run begins. An input that breaks something stands in
.fuzz/TARGET-crash-...: give it as an argument to try it again.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["proxy.openai"]):
    from .targets import TARGETS

from .corpus import seeds

FOLDER = Path(__file__).parents[2] / ".fuzz"


def main() -> None:
    """Run until libFuzzer has had enough; it ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [-max_total_time=SECONDS] [an input]")
    target = sys.argv.pop(1)
    options = [f"-artifact_prefix={FOLDER}/{target}-", "-timeout=20", "-rss_limit_mb=2048", "-max_len=6000"]
    options += ["-close_fd_mask=0", "-print_final_stats=1", "-verbosity=0"]
    if all(one.startswith("-") for one in sys.argv[1:]):
        corpus = FOLDER / target
        corpus.mkdir(parents=True, exist_ok=True)
        for seed in seeds(target):
            (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
        options.append(str(corpus))
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], TARGETS[target])
    atheris.Fuzz()


main()
