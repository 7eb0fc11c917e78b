"""The house rules that a machine can hold us to: import arrows, file sizes, what the wheel carries."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Who may import whom. Everything else among our own packages is an arrow that points upwards.
ARROWS = {
    "config": set[str](),
    "tokens": {"config"},
    "media": {"config"},
    "pipeline": {"config", "media"},
    "server": {"config", "tokens", "media", "pipeline"},
}
# Only these files may know a library whose private parts or whose place in the house is fixed.
ROOMS = {
    "aioice": ("media/", "server/peer.py"),
    "aiortc": ("media/", "server/peer.py"),
    "aiohttp": ("server/", "pipeline/wire.py"),
    "pylibsrtp": ("media/",),
    "redis": ("tokens/ledger.py", "server/"),
}
MOST_LINES = 500

MODULES = sorted(path for package in ARROWS for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full dotted names of the modules that a file imports, wherever in the file it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    here = path.relative_to(ROOT)
    package = here.parts[0]
    roots = {name.split(".")[0] for name in imports(path)}
    upwards = (roots & set(ARROWS)) - ARROWS[package] - {package}
    assert not upwards, f"{here} imports {sorted(upwards)}"
    for library, rooms in ROOMS.items():
        if library in roots:
            assert str(here).startswith(rooms), f"{here} imports {library}, which belongs to {rooms}"


def test_private_names_of_the_webrtc_libraries_stand_in_one_file() -> None:
    for path in MODULES:
        here = str(path.relative_to(ROOT))
        if here == "media/ortc.py" or not {"aiortc", "aioice"} & {n.split(".")[0] for n in imports(path)}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                assert own, f"{here}:{node.lineno} touches the private name {node.attr}"


def test_files_hold_one_idea() -> None:
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_no_package_shadows_the_standard_library() -> None:
    for path in MODULES:
        if len(path.relative_to(ROOT).parts) == 1:
            assert path.stem not in sys.stdlib_module_names


def test_the_wheel_holds_the_five_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == sorted(ARROWS)
    assert project["project"]["scripts"] == {"voice-server": "server.cli:main"}
