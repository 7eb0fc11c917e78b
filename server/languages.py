"""Names and flags of languages, for a list that a person chooses from."""

from __future__ import annotations

from config.identity import base_language

NAMES = {
    "ar": ("Arabic", "العربية", "SA"),
    "bg": ("Bulgarian", "български", "BG"),
    "ca": ("Catalan", "català", "ES"),
    "cs": ("Czech", "čeština", "CZ"),
    "da": ("Danish", "dansk", "DK"),
    "de": ("German", "Deutsch", "DE"),
    "el": ("Greek", "Ελληνικά", "GR"),
    "en": ("English", "English", "US"),
    "es": ("Spanish", "español", "ES"),
    "fi": ("Finnish", "suomi", "FI"),
    "fr": ("French", "français", "FR"),
    "he": ("Hebrew", "עברית", "IL"),
    "hi": ("Hindi", "हिन्दी", "IN"),
    "hr": ("Croatian", "hrvatski", "HR"),
    "hu": ("Hungarian", "magyar", "HU"),
    "id": ("Indonesian", "Indonesia", "ID"),
    "it": ("Italian", "italiano", "IT"),
    "ja": ("Japanese", "日本語", "JP"),
    "ko": ("Korean", "한국어", "KR"),
    "ms": ("Malay", "Melayu", "MY"),
    "nl": ("Dutch", "Nederlands", "NL"),
    "no": ("Norwegian", "norsk", "NO"),
    "pl": ("Polish", "polski", "PL"),
    "pt": ("Portuguese", "português", "PT"),
    "ro": ("Romanian", "română", "RO"),
    "ru": ("Russian", "русский", "RU"),
    "sk": ("Slovak", "slovenčina", "SK"),
    "sv": ("Swedish", "svenska", "SE"),
    "ta": ("Tamil", "தமிழ்", "IN"),
    "th": ("Thai", "ไทย", "TH"),
    "tr": ("Turkish", "Türkçe", "TR"),
    "uk": ("Ukrainian", "українська", "UA"),
    "vi": ("Vietnamese", "Tiếng Việt", "VN"),
    "zh": ("Chinese", "中文", "CN"),
}
"""By base tag: in English, in itself, and whose flag stands for it when the tag names no region."""


def described(tag: str) -> dict[str, str]:
    """``{code, name, flag, nativeName, region}`` of a BCP-47 tag, as far as they are known. Protocol 2.8."""
    code = base_language(tag)
    name, native, home = NAMES.get(code, (tag, tag, ""))
    named = next((part.upper() for part in tag.split("-")[1:] if len(part) == 2 and part.isalpha()), "")
    facts = {"code": code, "name": name, "flag": flag(named or home), "nativeName": native, "region": named}
    return {key: value for key, value in facts.items() if value}


def flag(region: str) -> str:
    """The flag of a region of two letters: its regional indicator symbols (Unicode, annex B of UTS 51)."""
    return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in region)
