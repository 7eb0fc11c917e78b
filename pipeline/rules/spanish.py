"""The rules in Spanish. Patterns stand without accents, which are taken off every question; the ñ remains."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta
from fractions import Fraction

from pipeline.rules.arithmetic import NotASumError, evaluate, read_integer, readings
from pipeline.rules.spanish_numbers import ACCENTS, LEXICON, joined, say_number, say_sum
from pipeline.rules.table import LONGEST_COUNT, LONGEST_WORD, Question, Table, rule, says, sentence

DAYS = ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"]
MONTHS = [
    *("enero", "febrero", "marzo", "abril", "mayo", "junio"),
    *("julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"),
]
PARTS_OF_DAY = [
    *((1, "de la noche"), (6, "de la madrugada"), (12, "de la mañana")),
    *((13, "del mediodía"), (20, "de la tarde"), (24, "de la noche")),
]
"""Hour before which each ends."""

CANNOT = (
    "Soy un pequeño conjunto de reglas fijas y no sé contestar a eso. "
    "Puedo decir la hora y la fecha, hacer cuentas, deletrear, contar y repetir lo que usted diga."
)
HELP = (
    "Puedo decirle la hora, el día y la fecha, hacer cuentas, deletrear una palabra, contar, repetir lo que diga, "
    "y contar un chiste o un cuento corto. ¿Qué le apetece?"
)
JOKES = [
    "¿Por qué cruzó el paquete la red? Para llegar al otro sitio.",
    "Le conté al servidor un chiste sobre UDP, pero no sé si le llegó.",
    "¿Qué le dice un bit a otro? Nos vemos en el bus.",
]
STORY = (
    "Érase una vez un faro pequeño que nadie visitaba. Cada noche encendía su lámpara, y cada noche el mar estaba "
    "vacío. Un invierno llegó una tormenta, y de la oscuridad salió un barco de pesca que había perdido el rumbo. El "
    "faro brilló como siempre, y el barco encontró el puerto. Por la mañana los pescadores pintaron su puerta de rojo, "
    "y desde entonces cada barco que pasa toca la campana una vez. Y colorín colorado, este cuento se ha acabado."
)

_NOW = r"(?: ahora| ahora mismo| actual)?"
_WHEN = r"(?: (?P<{}>hoy|mañana|ayer))?"


# --- time and date


@rule(
    rf"(?:a )?que horas? (?:es|son|tiene|tienes|tenemos){_NOW}",
    rf"(?:cual es |dime |digame )?la hora(?: exacta| local)?{_NOW}",
    r"(?:que )?hora es",
    r"que (?:horas|oras|orais)",  # as a recogniser hears it
)
def time(match: re.Match[str], question: Question) -> str:
    now = question.now
    hour = now.hour % 12 or 12
    article = "Es la una" if hour == 1 else f"Son las {say_number(Fraction(hour))}"
    minutes = f" y {say_number(Fraction(now.minute))}"
    minutes = {0: "", 1: " y un minuto", 15: " y cuarto", 30: " y media"}.get(now.minute, minutes)
    return f"{article}{minutes} {next(name for end, name in PARTS_OF_DAY if now.hour < end)}."


@rule(
    rf"(?:(?:cual|que) (?:es|era|fue|sera) )?la fecha(?: actual)?(?: de)?{_WHEN.format('of')}",
    rf"que fecha (?:es|era|fue|sera|tenemos|estamos|eso){_WHEN.format('at')}",
    r"a que fecha estamos",
    rf"a (?:que dia|cuanto|cuantos) (?:del mes )?estamos{_WHEN.format('on')}",
    rf"que dia del mes (?:es|era|fue|sera){_WHEN.format('part')}",
)
def day_of_month(match: re.Match[str], question: Question) -> str:
    day, name, verb = _day(match, question)
    return f"{name} {verb} {DAYS[day.weekday()]}, {day.day} de {MONTHS[day.month - 1]} de {day.year}."


@rule(
    rf"que dia(?: de la semana)? (?:es|era|fue|sera|tenemos){_WHEN.format('at')}",
    rf"(?:cual es )?el dia{_NOW}(?: de)?{_WHEN.format('of')}",
    r"que dia de la semana estamos",
)
def weekday(match: re.Match[str], question: Question) -> str:
    day, name, verb = _day(match, question)
    return f"{name} {verb} {DAYS[day.weekday()]}."


@rule(r"(?:en )?que (?P<part>mes|año) (?:es|estamos|vivimos)(?: ahora)?", r"cual es el (?P<the>mes|año)(?: actual)?")
def month_or_year(match: re.Match[str], question: Question) -> str:
    return f"Estamos en {MONTHS[question.now.month - 1] if 'mes' in match.groups() else question.now.year}."


def _day(match: re.Match[str], question: Question) -> tuple[date, str, str]:
    """The day that was asked for, its name and its verb."""
    words = set(match.groupdict().values())
    today = question.now.date()
    if "mañana" in words:
        return today + timedelta(days=1), "Mañana", "es"
    if "ayer" in words:
        return today - timedelta(days=1), "Ayer", "fue"
    return today, "Hoy", "es"


# --- sums

_SUM_FRAME = re.compile(
    r"^(?:(?:cuant[oa]s?|que|cual)(?: es| son| da| dan| hacen?| suman?| vale| seria)? |calcula(?:me)? |resuelve )?"
    r"(?:el resultado de )?(?:la (?!mitad|tercera)|el (?!doble|triple))?"
    r"(?P<sum>.+?)(?: (?:es igual a|igual a|es|son|da|dan|hacen?|suman?))?(?: cuanto| que)? ?=?$"
)


@rule(r".+")
def arithmetic(match: re.Match[str], question: Question) -> str | None:
    text = joined(match[0])
    frame = _SUM_FRAME.match(text)
    for tokens in readings(frame["sum"] if frame else text, LEXICON):
        try:
            value = evaluate(tokens)
        except ZeroDivisionError:
            return "No se puede dividir entre cero."
        except NotASumError:
            continue
        if len(tokens) > 1:
            return sentence(f"{say_sum(tokens)} {'es' if abs(value) <= 1 else 'son'} {say_number(value)}")
    return None


# --- repeating, spelling, counting

_SAID = re.compile(
    r"\b(?:repite|repita|di|diga)\b(?:\s+(?:esto|lo siguiente))?(?:[\s,]+(?:conmigo|después de mí|despues de mi))?"
    r"[\s,:;.-]*(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)


@rule(
    r"(?:repitelo|repitalo|repiteme eso|repite(?: eso| lo que has dicho)?|repita)(?: otra vez)?",
    r"(?:me )?(?:lo )?(?:(?:puede|puedes|podria|podrias) )?repetir(?:lo|me(?:lo)?)?(?: eso)?(?: otra vez| de nuevo)?"
    r"(?: (?:un poco )?mas (?:despacio|lento|alto))?",
    r"(?:dilo|digalo)(?: otra vez| de nuevo)",
    r"(?:que|como)(?: has| ha)? dicho",
    r"otra vez",
    r"como dices?",
)
def say_again(match: re.Match[str], question: Question) -> str | None:
    return question.previous or None


@rule(
    r"(?:repite|repita|di|diga)(?: esto| lo siguiente)?(?: conmigo| despues de mi) .+",
    r"(?:repite|repita|di|diga) (?!algo|nada|mas|como|que|por que|quien|donde|si|cuando).+",
    r"(?:repite|repita) (?:conmigo|despues de mi)",
)
def repeat(match: re.Match[str], question: Question) -> str | None:
    said = _SAID.search(question.text)
    text = said["text"].strip(" \"“”«»'") if said else ""
    return text[:1].upper() + text[1:] if text else "Diga: repite conmigo, y después las palabras."


@rule(
    r"(?:deletrea(?:me)?|deletree(?:me)?|deletrear)(?: la)?(?: palabra| el nombre| nombre)? (?P<word>.+)",
    r"como se (?:deletrea|escribe)(?: la palabra| el nombre)? (?P<passive>.+)",
)
def spell(match: re.Match[str], question: Question) -> str | None:
    word = _as_said((match["word"] or match["passive"]).strip(" '"), question)
    letters = [char.upper() for char in word if char.isalnum()]
    if not 0 < len(letters) <= LONGEST_WORD:
        return "Deletreo una palabra corta cada vez." if letters else None
    return f"{word[:1].upper()}{word[1:]} se deletrea {', '.join(letters)}."


def _as_said(plain: str, question: Question) -> str:
    """The words of a question with their accents, which cost no letter."""
    at = question.text.lower().translate(ACCENTS).find(plain)
    return question.text[at : at + len(plain)] if at >= 0 else plain


@rule(
    r"(?:cuenta|cuente|contar)(?: hacia atras)?(?: (?:desde|de|del)(?: el)? (?P<start>.+?))?(?: hacia atras)?"
    r" (?:hasta|al?)(?: el)? (?P<end>.+)",
    r"(?:cuenta|cuente|contar) (?:hacia )?atras (?:desde|de)(?: el)? (?P<only>.+)",
)
def count(match: re.Match[str], question: Question) -> str | None:
    start, end, only = (read_integer(joined(match[name] or ""), LEXICON) for name in ("start", "end", "only"))
    if match["only"] is not None:
        start, end = only, 0 if only is None else min(1, only)
    elif match["start"] is None and end is not None:
        start = min(1, end)
    if start is None or end is None:
        return None
    if abs(end - start) >= LONGEST_COUNT:
        return f"Eso es demasiado para mí. Cuento hasta {say_number(Fraction(LONGEST_COUNT))} números cada vez."
    step = 1 if end >= start else -1
    return sentence(", ".join(say_number(Fraction(n)) for n in range(start, end + step, step)))


# --- small talk


@rule(r"buen(?:os|as|) (?P<time>dias?|tardes|noches)(?: a todos)?")
def good_morning(match: re.Match[str], question: Question) -> str:
    greeting = {"tardes": "Buenas tardes", "noches": "Buenas noches"}.get(match["time"], "Buenos días")
    return f"¡{greeting}! ¿En qué puedo ayudarle?"


@rule(r"(?:hola )?(?:me llamo|mi nombre es) (?P<name>[^\W\d_]+(?:[ '-][^\W\d_]+){0,2})")
def introduction(match: re.Match[str], question: Question) -> str:
    return f"Mucho gusto, {_as_said(match['name'], question).title()}."


@rule(
    r"(?:cuenta(?:me)?|cuente(?:me)?|dime|digame|sabes|conoces|otro)?(?: un| otro| algun)? ?chistes?(?: corto| bueno)?",
    r"haz(?:me)? reir",
)
def joke(match: re.Match[str], question: Question) -> str:
    return random.Random(question.now.timestamp()).choice(JOKES)


_HELLO = r"(?:hola|buenas|saludos|oiga|oye|alo|hey)"

RULES = [
    says(
        "¡Hola! ¿En qué puedo ayudarle?",
        rf"{_HELLO}(?: {_HELLO})*(?: de nuevo| otra vez| a todos)?",
        r"(?:hay alguien|esta usted|estas) ahi",
        r"(?:me )?(?:oyes|oye|escuchas|escucha)(?: bien)?",
    ),
    good_morning,
    says(
        "Muy bien, gracias. ¿En qué puedo ayudarle?",
        r"(?:como|que tal) (?:estas?|esta usted|te va|le va|va|andas|has estado)(?: hoy| todo)?",
        r"que tal(?: todo)?",
    ),
    says("De nada.", r"(?:muchas |muchisimas )?gracias(?: por (?:todo|su ayuda|tu ayuda))?", r"mil gracias"),
    says(
        "¡Adiós! Ha sido un placer hablar con usted.",
        r"adios",
        r"hasta (?:luego|pronto|mañana|la vista|la proxima)",
        r"(?:que )?(?:tenga|ten|tengas|pase|pases) (?:un )?buen(?:a|as|os)? (?:dia|tarde|noche|fin de semana)",
        r"nos vemos(?: luego| pronto)?",
        r"chao|chau",
    ),
    says(
        "Soy una voz que vive en este servidor, sin ninguna nube.",
        r"(?:como|cual) (?:te llamas|se llama(?: usted)?|es (?:tu|su) nombre)",
        r"quien (?:eres|es usted|es|habla)",
        r"(?:que eres|que es usted)",
        r"(?:eres|es usted) (?:un |una )?(?:robot|humana?|persona|maquina|ordenador|bot|ia|inteligencia artificial)",
        r"con quien (?:hablo|estoy hablando)",
    ),
    says(
        "Me escribieron a mano, como parte de este servidor de voz.",
        r"quien (?:te|le|lo) (?:hizo|ha hecho|creo|ha creado|escribio|programo|construyo)",
    ),
    introduction,
    joke,
    says(
        STORY,
        r"(?:cuenta(?:me)?|cuente(?:me)?|lee(?:me)?|dime)?(?: un| una| otro| otra)? ?(?:cuento|historia)"
        r"(?: corto| corta| largo| larga)?(?: para dormir)?",
    ),
    says(
        HELP,
        r"ayuda(?:me)?(?: por favor)?",
        r"que (?:puedes|puede|sabes|sabe) (?:usted )?hacer(?: por mi)?",
        r"(?:en|con) que (?:me )?(?:puedes|puede) ayudar(?:me)?",
        r"que (?:te |le )?puedo (?:preguntar|decir|pedir)(?:te|le)?",
        r"como (?:me )?(?:puedes|puede) ayudar(?:me)?",
    ),
    time,
    month_or_year,
    day_of_month,
    weekday,
    say_again,
    repeat,
    spell,
    count,
    arithmetic,
]

SPANISH = Table(
    rules=RULES,
    contractions=[
        (re.compile("á"), "a"),
        (re.compile("é"), "e"),
        (re.compile("í"), "i"),
        (re.compile("ó"), "o"),
        (re.compile("[úü]"), "u"),
    ],
    politeness=re.compile(
        r"^(?:(?:eh|em|este|pues|bueno|bien|vale|a ver|entonces|ahora|y|si|no|ya|perdon|perdone|disculpa|disculpe"
        r"|oye|oiga|hola|gracias|por favor|buen(?:os|as) (?:dias|tardes|noches)|mara"
        r"|(?:me )?(?:puede|puedes|podria|podrias)(?: usted)?(?: por favor)?(?: (?:decir|decirme|dar|darme))?"
        r"|(?:dime|digame|dame|deme)|sabes?|(?:quiero|quisiera|me gustaria|necesito)(?: saber| oir| que)?) )*"
    ),
    afterthought=re.compile(r"(?: (?:por favor|ahora|ahora mismo|gracias|para mi|entonces|exactamente|mara))*$"),
    cannot=CANNOT,
)
