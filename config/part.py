"""What every part of a configuration is made of: frozen models and strict kinds of values."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StrictBool, StrictStr


def _text(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):  # JSON can carry it, UTF-8 cannot
        raise ValueError("expected text without lone surrogates")
    return text


Flag = StrictBool
Text = Annotated[StrictStr, AfterValidator(_text)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Natural = Annotated[int, Strict(), Field(ge=0, le=2**31)]
Share = Annotated[Number, Field(ge=0, le=1)]
Seconds = Annotated[Number, Field(ge=0)]


class Part(BaseModel):
    """A frozen part of the configuration. An unknown key is an error, so that it can be reported."""

    model_config = ConfigDict(frozen=True, extra="forbid")
