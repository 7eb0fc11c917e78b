"""How this server runs ONNX files: on the thread that asks, and on no other."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError

QUIET = 4  # only what ends the process


def open_session(path: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` that uses no thread of its own and never spins.

    Raises ``EngineError`` when the library or the file is missing or damaged.
    """
    try:
        onnxruntime = import_module("onnxruntime")  # it has no types
    except ImportError as error:
        raise EngineError(f"the package onnxruntime cannot be imported ({error.msg}): run `make setup`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = QUIET
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - the library's exceptions have no base of their own
        trouble = "is damaged" if path.exists() else "is missing"
        raise EngineError(f"{path.name} {trouble}: run `voice-server setup`") from None
