"""The tables of English: what its words and abbreviations are."""

from __future__ import annotations

import re

from pipeline.reading.reader import Currency, Unit

WORDS = {
    "about": "about", "and": "and", "at": "at", "colon": "colon", "dash": "dash", "degree": "degree",
    "degrees": "degrees", "C": "Celsius", "F": "Fahrenheit", "dot": "dot", "minus": "minus", "number": "number",
    "per": "per", "percent": "percent", "plus": "plus", "point": "point", "release": "point", "slash": "slash",
    "times": "times",
    "to": "to", "underscore": "underscore", "version": "version", "with": "and", "<": "is less than",
    ">": "is greater than",
}  # fmt: skip

SYMBOLS = {
    "&": "and", "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "→": "to", "⇒": "to", "↔": "to and from",
    "≈": "approximately", "±": "plus or minus", "≤": "at most", "≥": "at least", "≠": "is not equal to", "−": "minus",
    "%": "percent", "@": "at", "°": "degrees", "€": "euros", "£": "pounds", "$": "dollars", "¥": "yen", "√": "root",
    "№": "number", "§": "section", "²": "squared", "³": "cubed", "∞": "infinity", "^": "to the power of",
    "©": "copyright", "™": "", "®": "",
}  # fmt: skip

CURRENCIES = {
    **dict.fromkeys(("$", "US$", "USD"), Currency("dollar", "dollars", "cent", "cents")),
    **dict.fromkeys(("€", "EUR"), Currency("euro", "euros", "cent", "cents")),
    **dict.fromkeys(("£", "GBP"), Currency("pound", "pounds", "penny", "pence")),
    **dict.fromkeys(("¥", "JPY"), Currency("yen", "yen")),
    "MXN": Currency("Mexican peso", "Mexican pesos", "centavo", "centavos"),
    "CAD": Currency("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "CHF": Currency("Swiss franc", "Swiss francs"),
    "¢": Currency("cent", "cents"),
}

MULTIPLES = {
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion",
    "trillion": "trillion", "k": "thousand", "K": "thousand", "M": "million", "m": "million", "bn": "billion",
    "B": "billion",
}  # fmt: skip

UNITS = {
    symbol: Unit(one, many or one + "s")
    for symbol, one, many in [
        ("km/h", "kilometer per hour", "kilometers per hour"), ("m/s", "meter per second", "meters per second"),
        ("mph", "mile per hour", "miles per hour"), ("km²", "square kilometer", ""), ("km2", "square kilometer", ""),
        ("m²", "square meter", ""), ("m2", "square meter", ""), ("m³", "cubic meter", ""), ("m3", "cubic meter", ""),
        ("ft²", "square foot", "square feet"), ("sq ft", "square foot", "square feet"), ("km", "kilometer", ""),
        ("m", "meter", ""), ("cm", "centimeter", ""), ("mm", "millimeter", ""), ("mi", "mile", ""),
        ("ft", "foot", "feet"), ("yd", "yard", ""), ("kg", "kilogram", ""), ("g", "gram", ""), ("mg", "milligram", ""),
        ("lb", "pound", ""), ("lbs", "pound", ""), ("oz", "ounce", ""), ("l", "liter", ""), ("L", "liter", ""),
        ("ml", "milliliter", ""), ("mL", "milliliter", ""), ("cl", "centiliter", ""), ("gal", "gallon", ""),
        ("h", "hour", ""), ("hr", "hour", ""), ("hrs", "hour", ""), ("min", "minute", ""), ("mins", "minute", ""),
        ("s", "second", ""), ("sec", "second", ""), ("secs", "second", ""), ("ms", "millisecond", ""),
        ("µs", "microsecond", ""), ("ns", "nanosecond", ""), ("kB", "kilobyte", ""), ("KB", "kilobyte", ""),
        ("MB", "megabyte", ""), ("GB", "gigabyte", ""), ("TB", "terabyte", ""),
        ("kbps", "kilobit per second", "kilobits per second"), ("Mbps", "megabit per second", "megabits per second"),
        ("Gbps", "gigabit per second", "gigabits per second"), ("Hz", "hertz", "hertz"),
        ("kHz", "kilohertz", "kilohertz"), ("MHz", "megahertz", "megahertz"), ("GHz", "gigahertz", "gigahertz"),
        ("V", "volt", ""), ("W", "watt", ""), ("kW", "kilowatt", ""), ("kWh", "kilowatt hour", ""),
        ("dB", "decibel", ""),
        ("kcal", "kilocalorie", ""), ("px", "pixel", ""), ("rpm", "revolution per minute", "revolutions per minute"),
    ]
}  # fmt: skip

ABBREVIATIONS = {
    "mr.": "Mister", "mrs.": "Missus", "prof.": "Professor", "jr.": "Junior", "sr.": "Senior", "vs.": "versus",
    "etc.": "et cetera", "e.g.": "for example", "i.e.": "that is", "approx.": "approximately", "dept.": "department",
    "ltd.": "Limited", "inc.": "Incorporated", "corp.": "Corporation", "blvd.": "Boulevard", "ave.": "Avenue",
    "hwy.": "Highway", "apt.": "apartment", "appt.": "appointment", "a.k.a.": "also known as", "w/o": "without",
    "w/": "with", "tel.": "telephone", "hrs.": "hours", "incl.": "including", "excl.": "excluding",
    "misc.": "miscellaneous",
}  # fmt: skip

BEFORE_DIGITS = {
    "no.": "number", "nos.": "numbers", "fig.": "figure", "vol.": "volume", "p.": "page", "pp.": "pages",
    "ext.": "extension", "art.": "article", "ch.": "chapter", "sec.": "section", "max.": "maximum",
    "min.": "minimum", "ca.": "about", "est.": "estimated",
}  # fmt: skip

BEFORE_NAMES = {
    "dr.": "Doctor", "gen.": "General", "capt.": "Captain", "lt.": "Lieutenant", "sgt.": "Sergeant", "mt.": "Mount",
    "rev.": "Reverend", "sen.": "Senator", "gov.": "Governor", "ft.": "Fort", "col.": "Colonel", "hon.": "Honorable",
}  # fmt: skip

CODE = re.compile(
    r"\b(?:order|ref|reference|code|pin|zip|account|card|booking|confirmation|tracking|ticket|case|invoice|number"
    r"|no|flight|extension|ext|id|serial|model|passport|licen[cs]e|ending in)(?:\s(?:number|no|code|id|is))*\W{0,3}$",
    re.IGNORECASE,
)
