"""List the words of the translation data set: the translations of each source word, with their probabilities.

The source words are English, the target words German; the grammar of the target is made up (`translation`). A share
is either a number, equal in every sentence, or one of `COUNTRY` and `TOWN`, which depend on the place that the
sentence names. A model can learn to predict only the choices that depend on the place; the others are irreducible.
"""

from __future__ import annotations

from typing import NamedTuple

ShareByPlace = float | tuple[float, float, float]
"""Probability of a translation. Three numbers hold for a place in the country, no place, and a place in town."""
COUNTRY: ShareByPlace = (0.9, 0.5, 0.1)
TOWN: ShareByPlace = (0.1, 0.5, 0.9)

GENDERS = "mfn"


class Word(NamedTuple):
    """Hold one translation of a source word."""

    share: ShareByPlace
    forms: tuple[str, ...]
    """Forms of the word, by part of speech.

    Nouns and verbs have a singular and a plural, determiners and adjectives have masculine, feminine, neuter and
    plural; a word that does not change has one form.
    """
    gender: str = ""
    """Gender m, f or n of a noun, with which determiner and adjective agree."""


Translations = dict[str, tuple[Word, ...]]
"""Source words, each with its translations."""


def _noun(share: ShareByPlace, gender: str, *forms: str) -> Word:
    return Word(share, forms, gender)


def _word(share: ShareByPlace, *forms: str) -> Word:
    return Word(share, forms)


def _adjective(share: ShareByPlace, stem: str) -> Word:
    return Word(share, tuple(stem + ending for ending in ("er", "e", "es", "en")))


NOUNS: dict[tuple[str, str], tuple[Word, ...]] = {
    ("bank", "banks"): (_noun(COUNTRY, "n", "Ufer", "Ufer"), _noun(TOWN, "f", "Bank", "Banken")),
    ("crane", "cranes"): (_noun(COUNTRY, "m", "Kranich", "Kraniche"), _noun(TOWN, "m", "Kran", "Kräne")),
    ("plant", "plants"): (_noun(COUNTRY, "f", "Pflanze", "Pflanzen"), _noun(TOWN, "n", "Werk", "Werke")),
    ("seal", "seals"): (_noun(COUNTRY, "f", "Robbe", "Robben"), _noun(TOWN, "n", "Siegel", "Siegel")),
    ("boat", "boats"): (_noun(0.6, "n", "Boot", "Boote"), _noun(0.4, "m", "Kahn", "Kähne")),
    ("horse", "horses"): (_noun(0.7, "n", "Pferd", "Pferde"), _noun(0.3, "m", "Gaul", "Gäule")),
    ("boy", "boys"): (_noun(0.65, "m", "Junge", "Jungen"), _noun(0.35, "m", "Knabe", "Knaben")),
    ("doctor", "doctors"): (_noun(0.55, "m", "Arzt", "Ärzte"), _noun(0.45, "m", "Doktor", "Doktoren")),
    ("car", "cars"): (
        _noun(0.5, "n", "Auto", "Autos"),
        _noun(0.3, "m", "Wagen", "Wagen"),
        _noun(0.2, "f", "Karre", "Karren"),
    ),
    ("dog", "dogs"): (_noun(1.0, "m", "Hund", "Hunde"),),
    ("cat", "cats"): (_noun(1.0, "f", "Katze", "Katzen"),),
    ("woman", "women"): (_noun(1.0, "f", "Frau", "Frauen"),),
    ("child", "children"): (_noun(1.0, "n", "Kind", "Kinder"),),
    ("letter", "letters"): (_noun(1.0, "m", "Brief", "Briefe"),),
}
"""Translations of each noun, by its singular and plural."""

COUNTRY_PLACES: Translations = {
    "forest": (_noun(0.8, "m", "Wald"), _noun(0.2, "m", "Forst")),
    "field": (_noun(0.5, "n", "Feld"), _noun(0.5, "m", "Acker")),
    "village": (_noun(1.0, "n", "Dorf"),),
}
TOWN_PLACES: Translations = {
    "street": (_noun(0.7, "f", "Straße"), _noun(0.3, "f", "Gasse")),
    "office": (_noun(0.6, "n", "Büro"), _noun(0.4, "n", "Amt")),
    "market": (_noun(1.0, "m", "Markt"),),
}
"""Translations of places in town; places stand in the singular only."""

SINGULAR_DETERMINERS: Translations = {
    "the": (_word(1.0, "der", "die", "das", "die"),),
    "a": (_word(1.0, "ein", "eine", "ein", ""),),
    "this": (_word(1.0, "dieser", "diese", "dieses", ""),),
    "every": (_word(1.0, "jeder", "jede", "jedes", ""),),
}
PLURAL_DETERMINERS: Translations = {
    "the": SINGULAR_DETERMINERS["the"],
    "these": (_word(1.0, "", "", "", "diese"),),
    "some": (_word(0.6, "", "", "", "einige"), _word(0.4, "", "", "", "manche")),
    "many": (_word(1.0, "", "", "", "viele"),),
}

ADJECTIVES: Translations = {
    "old": (_adjective(0.8, "alt"), _adjective(0.2, "betagt")),
    "big": (_adjective(0.6, "groß"), _adjective(0.4, "riesig")),
    "small": (_adjective(0.75, "klein"), _adjective(0.25, "winzig")),
    "beautiful": (_adjective(0.5, "schön"), _adjective(0.3, "hübsch"), _adjective(0.2, "herrlich")),
    "quiet": (_adjective(0.5, "still"), _adjective(0.5, "ruhig")),
    "clever": (_adjective(0.6, "klug"), _adjective(0.4, "schlau")),
    "red": (_adjective(1.0, "rot"),),
    "green": (_adjective(1.0, "grün"),),
    "new": (_adjective(1.0, "neu"),),
}

TRANSITIVE: Translations = {
    "drew": (_word(COUNTRY, "zog", "zogen"), _word(TOWN, "zeichnete", "zeichneten")),
    "missed": (
        _word(0.4, "verfehlte", "verfehlten"),
        _word(0.35, "verpasste", "verpassten"),
        _word(0.25, "vermisste", "vermissten"),
    ),
    "saw": (_word(0.6, "sah", "sahen"), _word(0.4, "erblickte", "erblickten")),
    "bought": (_word(0.7, "kaufte", "kauften"), _word(0.3, "erwarb", "erwarben")),
    "followed": (_word(0.6, "folgte", "folgten"), _word(0.4, "verfolgte", "verfolgten")),
    "found": (_word(1.0, "fand", "fanden"),),
    "sold": (_word(1.0, "verkaufte", "verkauften"),),
    "loved": (_word(1.0, "liebte", "liebten"),),
}
INTRANSITIVE: Translations = {
    "slept": (_word(0.7, "schlief", "schliefen"), _word(0.3, "schlummerte", "schlummerten")),
    "ran": (_word(0.5, "lief", "liefen"), _word(0.5, "rannte", "rannten")),
    "sang": (_word(1.0, "sang", "sangen"),),
    "waited": (_word(1.0, "wartete", "warteten"),),
}

ADVERBS: Translations = {
    "often": (_word(0.7, "oft"), _word(0.3, "immer wieder")),
    "quickly": (_word(0.6, "schnell"), _word(0.4, "rasch")),
    "secretly": (_word(0.5, "heimlich"), _word(0.5, "insgeheim")),
    "never": (_word(0.6, "nie"), _word(0.4, "niemals")),
    "today": (_word(1.0, "heute"),),
}
ADVERB_FIRST = 0.3
"""ShareByPlace of sentences with an adverb that begin with it; in the others it follows the object."""

PREPOSITIONS: Translations = {
    "near": (_word(0.5, "bei"), _word(0.5, "nahe")),
    "in": (_word(1.0, "in"),),
    "behind": (_word(1.0, "hinter"),),
}
