"""The tables of Spanish: what its words and abbreviations are."""

from __future__ import annotations

import re

from pipeline.reading.reader import Currency, Unit

WORDS = {
    "about": "aproximadamente", "and": "y", "at": "arroba", "colon": "dos puntos", "dash": "guion",
    "degree": "grado", "degrees": "grados", "C": "centígrados", "F": "Fahrenheit", "dot": "punto", "minus": "menos",
    "number": "número", "per": "por", "percent": "por ciento", "plus": "más", "release": "punto", "slash": "barra",
    "times": "por",
    "to": "a", "underscore": "guion bajo", "version": "versión", "with": "con", "<": "es menor que",
    ">": "es mayor que",
}  # fmt: skip

SYMBOLS = {
    "&": "y", "+": "más", "=": "es igual a", "×": "por", "÷": "entre", "→": "a", "⇒": "a", "↔": "con",
    "≈": "aproximadamente", "±": "más o menos", "≤": "como máximo", "≥": "como mínimo", "≠": "no es igual a",
    "−": "menos", "%": "por ciento", "@": "arroba", "°": "grados", "€": "euros", "£": "libras", "$": "dólares",
    "¥": "yenes", "√": "raíz de", "№": "número", "§": "sección", "²": "al cuadrado", "³": "al cubo",
    "∞": "infinito", "^": "elevado a", "©": "copyright", "™": "", "®": "",
}  # fmt: skip

CURRENCIES = {
    **dict.fromkeys(("US$", "USD"), Currency("dólar", "dólares", "centavo", "centavos")),
    **dict.fromkeys(("€", "EUR"), Currency("euro", "euros", "céntimo", "céntimos")),
    **dict.fromkeys(("£", "GBP"), Currency("libra", "libras", "penique", "peniques", feminine=True)),
    **dict.fromkeys(("¥", "JPY"), Currency("yen", "yenes")),
    **dict.fromkeys(("MXN", "ARS", "COP", "CLP"), Currency("peso", "pesos", "centavo", "centavos")),
    "S/": Currency("sol", "soles", "céntimo", "céntimos"),
    "CHF": Currency("franco suizo", "francos suizos"),
    "$": Currency("dólar", "dólares", "centavo", "centavos"),
}

MULTIPLES = {
    "mil": "mil", "millón": "millón de", "millones": "millones de", "mill.": "millones de", "k": "mil", "K": "mil",
    "M": "millones de", "billones": "billones de", "mil millones": "mil millones de",
}  # fmt: skip

UNITS = {
    symbol: Unit(one, many or one + "s", female)
    for symbol, one, many, female in [
        ("km/h", "kilómetro por hora", "kilómetros por hora", False),
        ("m/s", "metro por segundo", "metros por segundo", False),
        ("km²", "kilómetro cuadrado", "kilómetros cuadrados", False),
        ("m²", "metro cuadrado", "metros cuadrados", False),
        ("m2", "metro cuadrado", "metros cuadrados", False), ("m³", "metro cúbico", "metros cúbicos", False),
        ("m3", "metro cúbico", "metros cúbicos", False), ("km", "kilómetro", "", False),
        ("Km", "kilómetro", "", False),
        ("m", "metro", "", False), ("cm", "centímetro", "", False), ("mm", "milímetro", "", False),
        ("kg", "kilo", "", False), ("Kg", "kilo", "", False), ("g", "gramo", "", False), ("gr", "gramo", "", False),
        ("mg", "miligramo", "", False), ("l", "litro", "", False), ("L", "litro", "", False),
        ("ml", "mililitro", "", False), ("cl", "centilitro", "", False), ("h", "hora", "", True),
        ("hs", "hora", "", True), ("hrs", "hora", "", True), ("min", "minuto", "", False), ("s", "segundo", "", False),
        ("seg", "segundo", "", False), ("ms", "milisegundo", "", False), ("kB", "kilobyte", "", False),
        ("KB", "kilobyte", "", False), ("MB", "megabyte", "", False), ("GB", "gigabyte", "", False),
        ("TB", "terabyte", "", False), ("Mbps", "megabit por segundo", "megabits por segundo", False),
        ("Hz", "hercio", "", False), ("kHz", "kilohercio", "", False), ("MHz", "megahercio", "", False),
        ("GHz", "gigahercio", "", False), ("V", "voltio", "", False), ("W", "vatio", "", False),
        ("kW", "kilovatio", "", False), ("kWh", "kilovatio hora", "kilovatios hora", False),
        ("dB", "decibelio", "", False), ("kcal", "kilocaloría", "", True), ("ha", "hectárea", "", True),
        ("px", "píxel", "píxeles", False),
    ]
}  # fmt: skip

ABBREVIATIONS = {
    "sr.": "señor", "sra.": "señora", "srta.": "señorita", "sres.": "señores", "sras.": "señoras", "dr.": "doctor",
    "dra.": "doctora", "d.ª": "doña", "ud.": "usted", "vd.": "usted", "uds.": "ustedes", "vds.": "ustedes",
    "ee.uu.": "Estados Unidos",
    "ee.uu": "Estados Unidos", "eeuu": "Estados Unidos", "p.ej.": "por ejemplo", "etc.": "etcétera",
    "aprox.": "aproximadamente", "tel.": "teléfono", "teléf.": "teléfono", "tfno.": "teléfono", "avda.": "avenida",
    "c/": "calle", "pza.": "plaza", "plza.": "plaza", "dcha.": "derecha", "izda.": "izquierda", "máx.": "máximo",
    "mín.": "mínimo", "a.c.": "antes de Cristo", "d.c.": "después de Cristo", "depto.": "departamento",
    "dpto.": "departamento", "hnos.": "hermanos", "prof.": "profesor", "profa.": "profesora", "ing.": "ingeniero",
    "lic.": "licenciado", "gral.": "general", "excmo.": "excelentísimo", "vs.": "contra", "cía.": "compañía",
    "rr.hh.": "recursos humanos", "jj.oo.": "Juegos Olímpicos", "ff.aa.": "Fuerzas Armadas",
    "cc.aa.": "comunidades autónomas", "s.a.": "ese a", "s.l.": "ese ele", "s.m.": "Su Majestad",
    "admón.": "administración",
}  # fmt: skip

BEFORE_DIGITS = {
    "núm.": "número", "núms.": "números", "n.º": "número", "nº": "número", "n°": "número", "no.": "número",
    "pág.": "página", "págs.": "páginas", "p.": "página", "pp.": "páginas", "art.": "artículo", "cap.": "capítulo",
    "vol.": "volumen", "fig.": "figura", "ext.": "extensión", "c.p.": "código postal", "km.": "kilómetro",
}  # fmt: skip

BEFORE_NAMES = {"d.": "don", "dña.": "doña", "sto.": "Santo", "sta.": "Santa", "av.": "avenida"}

CODE = re.compile(
    r"\b(?:pedido|referencia|código|pin|postal|cuenta|tarjeta|reserva|confirmación|seguimiento|caso|factura|número"
    r"|núm|vuelo|extensión|id|expediente|clave|dni|cp|matrícula|terminada en)(?:\s(?:número|de|es|su|postal))*\W{0,3}$",
    re.IGNORECASE,
)
