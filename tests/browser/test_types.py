"""The type files are what they say, to the compiler that reads them: strict, and with mistakes that it must find."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.playground import EMBEDDED, FOLDER

USAGE = Path(__file__).parent / "types" / "usage.ts"
STRICT = (
    "--strict",
    "--noEmit",
    "--noUncheckedIndexedAccess",
    "--exactOptionalPropertyTypes",
    "--noPropertyAccessFromIndexSignature",
    *("--target", "es2022", "--module", "es2022", "--moduleResolution", "node", "--lib", "es2022,dom"),
    *("--typeRoots", "nowhere"),
)


def compiler() -> str:
    path = shutil.which("tsc")
    if path is None:
        pytest.fail("tsc is missing. Install the TypeScript compiler with: sudo apt-get install -y node-typescript")
    return path


def compiled(folder: Path, usage: str) -> list[str]:
    """What the compiler has to say about a page's script beside the type files."""
    for name in EMBEDDED:
        if name.endswith(".d.ts"):
            shutil.copy(FOLDER / name, folder)
    (folder / "usage.ts").write_text(usage)
    done = subprocess.run(
        [compiler(), *STRICT, "usage.ts"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    complaints = done.stdout.splitlines()
    assert bool(complaints) == bool(done.returncode), done.stderr
    return complaints


def test_a_page_in_strict_typescript_compiles(tmp_path: Path) -> None:
    assert compiled(tmp_path, USAGE.read_text()) == []


def test_each_mistake_is_one(tmp_path: Path) -> None:
    """Without the comments that expect them, the compiler complains once about each."""
    lines = USAGE.read_text().splitlines()
    wrong = [number + 1 for number, line in enumerate(lines, 1) if line.startswith("// @ts-expect-error")]
    complaints = compiled(tmp_path, "\n".join(line.replace("@ts-expect-error", "Wrong:") for line in lines))
    found = [int(match[1]) for line in complaints if (match := re.match(r"usage\.ts\((\d+),", line))]
    assert sorted(set(found)) == wrong, "\n".join(complaints)


@pytest.mark.parametrize("name", ["chat", "client", "widget"])
def test_what_is_declared_is_there_and_the_other_way_round(name: str) -> None:
    """The public members of the classes, by their names, without what a class inherits from the browser."""
    code, types = ((FOLDER / f"{name}{ending}").read_text() for ending in (".js", ".d.ts"))
    for declared in re.findall(r"export declare class (\w+)", types):
        assert _members(code, f"export class {declared} ") == _members(types, f"export declare class {declared} ")
    assert set(re.findall(r"export class (\w+)", code)) == set(re.findall(r"export declare class (\w+)", types))


def _members(text: str, start: str) -> set[str]:
    """Names at the first level of a class body, without the private ones and what the browser calls."""
    body = text[text.index(start) :].split("\n}\n", 1)[0]
    names = re.findall(r"^  (?:readonly |async |get )?([A-Za-z]\w*)(?:<[^\n]*?>)?(?: = |: |\()", body, re.MULTILINE)
    assigned = re.findall(r"^    this\.([a-z]\w*) = (?!.*#)", body, re.MULTILINE)
    return {*names, *assigned} - {"connectedCallback", "disconnectedCallback", "constructor", "name"}
