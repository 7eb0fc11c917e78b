"""Every dialogue file of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dialogues.player import play
from tests.dialogues.review import review
from tests.dialogues.script import read

FILES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue(path: Path) -> None:
    script = read(path)
    problems = review(script, play(script))
    if problems and script.pending:
        pytest.xfail(script.pending)
    if problems:
        pytest.fail(f"{script.title}\n{problems}", pytrace=False)
    assert not script.pending, "it works: take the line away"
