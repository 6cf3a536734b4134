"""The page for plugin authors: each of its blocks of code is a file, named by its first line."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```\w+\n# ([\w.]+)\n(.*?)```", re.DOTALL)


def written(folder: Path) -> list[str]:
    """Write the files that the page shows into a folder; their names."""
    page = (ROOT / "docs" / "testing-plugins.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```") // 2, "a block of the page does not begin with the name of its file"
    for name, text in blocks:
        (folder / name).write_text(text)
    return [name for name, _ in blocks]
