"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from config.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def settings_table() -> str:
    """The table of ``docs/settings.md``."""
    rows = ["| Key | Environment | Default | |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = (
            field.get_default()
            if field.default_factory is None
            else {
                "data_dir": "the user's data folder",
                "models_dir": "the user's cache folder",
            }[name]
        )
        shown = "none" if default in (None, ()) else str(default).lower() if isinstance(default, bool) else str(default)
        variable = "" if name == "agents" else f"`{PREFIX}{name.upper()}`"
        rows.append(f"| `{name}` | {variable} | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def test_every_setting_is_documented_with_its_default() -> None:
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
