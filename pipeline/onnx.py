"""How this server runs ONNX files: on the thread that asks, and on no other."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError

QUIET = 4  # only what ends the process


def open_session(model: Path | bytes) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or its content that uses no thread of its own and never spins.

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
        content = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - the library's exceptions have no base of their own
        if isinstance(model, bytes):
            raise EngineError("a network cannot be run by this version of onnxruntime: run `make setup`") from None
        trouble = "is damaged" if model.exists() else "is missing"
        raise EngineError(f"{model.name} {trouble}: run `voice-server setup`") from None
