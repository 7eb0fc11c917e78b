"""Files that come in a form (multipart/form-data, RFC 7578) or as the whole body: straight to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from aiohttp import BodyPartReader, http_exceptions, web

from server.http import ApiError

MAX_FILE = 25 << 20
"""Bytes."""
MAX_FIELD, MAX_FIELDS = 4096, 16
"""Bytes of any other field, and how many there may be."""

PIECE, BATCH = 1 << 16, 1 << 18
"""Bytes that are read, and that are written at once: a disk may be busy, so a thread waits for it, not the calls."""

SILENT_SECONDS, ALL_SECONDS = 15.0, 600.0
"""How long a client may send nothing, and how long the whole may take."""

WHOLE = ("audio/", "video/", "application/octet-stream")
"""Types of a body that is the file itself."""

DAMAGED = (AssertionError, RuntimeError, ValueError, http_exceptions.HttpProcessingError, web.RequestPayloadError)
"""What a reader of aiohttp raises over a damaged body."""

T = TypeVar("T")


async def receive(request: web.Request, target: Path, *, name: str = "file", most: int = MAX_FILE) -> dict[str, str]:
    """Write the file to ``target``: the field ``name``, or that which has a file name. Returns the other fields.

    Raises ``ApiError``: 400, 408, 413 above ``most`` bytes, 415 for a body of another kind.
    """
    if (request.content_length or 0) > most + MAX_FIELDS * MAX_FIELD:
        raise _too_large(most)
    try:
        async with asyncio.timeout(ALL_SECONDS):
            if request.content_type.startswith("multipart/"):
                return await _form(request, target, name, most)
            if request.content_type.startswith(WHOLE):
                await _save(partial(request.content.read, PIECE), target, most)
                return {}
    except TimeoutError:
        raise ApiError(408, "The request body did not arrive in time", "REQUEST_TIMEOUT") from None
    except DAMAGED:
        raise ApiError(400, "The request body is damaged", "BAD_REQUEST") from None
    raise ApiError(415, f"Expected a form (multipart/form-data) with a {name}", "UNSUPPORTED_MEDIA")


async def _form(request: web.Request, target: Path, name: str, most: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    found = False
    form = await request.multipart()
    while (part := await _soon(form.next())) is not None:
        if not isinstance(part, BodyPartReader) or len(fields) >= MAX_FIELDS:
            raise ApiError(400, "The form has parts that are none of a file and a few fields", "BAD_REQUEST")
        if part.name == name or part.filename:
            if found:
                raise ApiError(400, f"The form has more than one {name}", "BAD_REQUEST")
            found = True
            await _save(partial(part.read_chunk, PIECE), target, most)
        else:
            fields[part.name or ""] = await _field(part)
    if not found:
        raise ApiError(400, f"{name} is required", "BAD_REQUEST")
    return fields


async def _field(part: BodyPartReader) -> str:
    data = b""
    while piece := await _soon(part.read_chunk(PIECE)):
        data += piece
        if len(data) > MAX_FIELD:
            raise ApiError(413, f"A field of the form is larger than {MAX_FIELD // 1024} KiB", "FILE_TOO_LARGE")
    return data.decode()


async def _save(read: Callable[[], Awaitable[bytes]], target: Path, most: int) -> None:
    size, batch = 0, bytearray()
    with target.open("wb", buffering=0) as file:
        while piece := await _soon(read()):
            size += len(piece)
            if size > most:
                raise _too_large(most)
            batch += piece
            if len(batch) >= BATCH:
                await asyncio.to_thread(file.write, bytes(batch))
                batch.clear()
        await asyncio.to_thread(file.write, bytes(batch))


async def _soon(reading: Awaitable[T]) -> T:
    async with asyncio.timeout(SILENT_SECONDS):
        return await reading


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The file is larger than {most >> 20} MiB", "FILE_TOO_LARGE")
