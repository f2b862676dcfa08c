"""List the words of the translation data set: the translations of each source word, with their probabilities.

The source words are English, the target words German; the grammar of the target is made up (`translation`). A share
is either a number, the same in every sentence, or one of `COUNTRY` and `TOWN`, which depend on the place that the
sentence names. A model can learn to predict only the choices that depend on the place; the others are irreducible.
"""

from __future__ import annotations

from typing import NamedTuple

Share = float | tuple[float, float, float]
"""Probability of a translation. Three numbers hold for a place in the country, no place, and a place in town."""
COUNTRY: Share = (0.9, 0.5, 0.1)
TOWN: Share = (0.1, 0.5, 0.9)

GENDERS = "mfn"


class Noun(NamedTuple):
    """One translation of a noun."""

    share: Share
    gender: str
    """Gender m, f or n, with which determiner and adjective agree."""
    singular: str
    plural: str


class Verb(NamedTuple):
    """One translation of a verb, which agrees with its subject in number."""

    share: Share
    singular: str
    plural: str


class Inflected(NamedTuple):
    """One translation of a determiner."""

    share: Share
    forms: tuple[str, str, str, str]
    """Forms for masculine, feminine, neuter and plural."""


class Plain(NamedTuple):
    """One translation of a word that does not change, or the stem of an adjective."""

    share: Share
    text: str


NOUNS: dict[tuple[str, str], tuple[Noun, ...]] = {
    ("bank", "banks"): (Noun(COUNTRY, "n", "Ufer", "Ufer"), Noun(TOWN, "f", "Bank", "Banken")),
    ("crane", "cranes"): (Noun(COUNTRY, "m", "Kranich", "Kraniche"), Noun(TOWN, "m", "Kran", "Kräne")),
    ("plant", "plants"): (Noun(COUNTRY, "f", "Pflanze", "Pflanzen"), Noun(TOWN, "n", "Werk", "Werke")),
    ("seal", "seals"): (Noun(COUNTRY, "f", "Robbe", "Robben"), Noun(TOWN, "n", "Siegel", "Siegel")),
    ("boat", "boats"): (Noun(0.6, "n", "Boot", "Boote"), Noun(0.4, "m", "Kahn", "Kähne")),
    ("horse", "horses"): (Noun(0.7, "n", "Pferd", "Pferde"), Noun(0.3, "m", "Gaul", "Gäule")),
    ("boy", "boys"): (Noun(0.65, "m", "Junge", "Jungen"), Noun(0.35, "m", "Knabe", "Knaben")),
    ("doctor", "doctors"): (Noun(0.55, "m", "Arzt", "Ärzte"), Noun(0.45, "m", "Doktor", "Doktoren")),
    ("car", "cars"): (
        Noun(0.5, "n", "Auto", "Autos"),
        Noun(0.3, "m", "Wagen", "Wagen"),
        Noun(0.2, "f", "Karre", "Karren"),
    ),
    ("dog", "dogs"): (Noun(1.0, "m", "Hund", "Hunde"),),
    ("cat", "cats"): (Noun(1.0, "f", "Katze", "Katzen"),),
    ("woman", "women"): (Noun(1.0, "f", "Frau", "Frauen"),),
    ("child", "children"): (Noun(1.0, "n", "Kind", "Kinder"),),
    ("letter", "letters"): (Noun(1.0, "m", "Brief", "Briefe"),),
}
"""Translations of each noun, by its singular and plural."""

COUNTRY_PLACES: dict[str, tuple[Noun, ...]] = {
    "forest": (Noun(0.8, "m", "Wald", "Wälder"), Noun(0.2, "m", "Forst", "Forste")),
    "field": (Noun(0.5, "n", "Feld", "Felder"), Noun(0.5, "m", "Acker", "Äcker")),
    "village": (Noun(1.0, "n", "Dorf", "Dörfer"),),
}
TOWN_PLACES: dict[str, tuple[Noun, ...]] = {
    "street": (Noun(0.7, "f", "Straße", "Straßen"), Noun(0.3, "f", "Gasse", "Gassen")),
    "office": (Noun(0.6, "n", "Büro", "Büros"), Noun(0.4, "n", "Amt", "Ämter")),
    "market": (Noun(1.0, "m", "Markt", "Märkte"),),
}
"""Translations of places in town; places stand in the singular only."""

SINGULAR_DETERMINERS: dict[str, tuple[Inflected, ...]] = {
    "the": (Inflected(1.0, ("der", "die", "das", "die")),),
    "a": (Inflected(1.0, ("ein", "eine", "ein", "")),),
    "this": (Inflected(1.0, ("dieser", "diese", "dieses", "")),),
    "every": (Inflected(1.0, ("jeder", "jede", "jedes", "")),),
}
PLURAL_DETERMINERS: dict[str, tuple[Inflected, ...]] = {
    "the": SINGULAR_DETERMINERS["the"],
    "these": (Inflected(1.0, ("", "", "", "diese")),),
    "some": (Inflected(0.6, ("", "", "", "einige")), Inflected(0.4, ("", "", "", "manche"))),
    "many": (Inflected(1.0, ("", "", "", "viele")),),
}

ADJECTIVES: dict[str, tuple[Plain, ...]] = {
    "old": (Plain(0.8, "alt"), Plain(0.2, "betagt")),
    "big": (Plain(0.6, "groß"), Plain(0.4, "riesig")),
    "small": (Plain(0.75, "klein"), Plain(0.25, "winzig")),
    "beautiful": (Plain(0.5, "schön"), Plain(0.3, "hübsch"), Plain(0.2, "herrlich")),
    "quiet": (Plain(0.5, "still"), Plain(0.5, "ruhig")),
    "clever": (Plain(0.6, "klug"), Plain(0.4, "schlau")),
    "red": (Plain(1.0, "rot"),),
    "green": (Plain(1.0, "grün"),),
    "new": (Plain(1.0, "neu"),),
}
ENDINGS = ("er", "e", "es", "en")
"""Endings of an adjective: masculine, feminine, neuter, plural."""

TRANSITIVE: dict[str, tuple[Verb, ...]] = {
    "drew": (Verb(COUNTRY, "zog", "zogen"), Verb(TOWN, "zeichnete", "zeichneten")),
    "missed": (
        Verb(0.4, "verfehlte", "verfehlten"),
        Verb(0.35, "verpasste", "verpassten"),
        Verb(0.25, "vermisste", "vermissten"),
    ),
    "saw": (Verb(0.6, "sah", "sahen"), Verb(0.4, "erblickte", "erblickten")),
    "bought": (Verb(0.7, "kaufte", "kauften"), Verb(0.3, "erwarb", "erwarben")),
    "followed": (Verb(0.6, "folgte", "folgten"), Verb(0.4, "verfolgte", "verfolgten")),
    "found": (Verb(1.0, "fand", "fanden"),),
    "sold": (Verb(1.0, "verkaufte", "verkauften"),),
    "loved": (Verb(1.0, "liebte", "liebten"),),
}
INTRANSITIVE: dict[str, tuple[Verb, ...]] = {
    "slept": (Verb(0.7, "schlief", "schliefen"), Verb(0.3, "schlummerte", "schlummerten")),
    "ran": (Verb(0.5, "lief", "liefen"), Verb(0.5, "rannte", "rannten")),
    "sang": (Verb(1.0, "sang", "sangen"),),
    "waited": (Verb(1.0, "wartete", "warteten"),),
}

ADVERBS: dict[str, tuple[Plain, ...]] = {
    "often": (Plain(0.7, "oft"), Plain(0.3, "immer wieder")),
    "quickly": (Plain(0.6, "schnell"), Plain(0.4, "rasch")),
    "secretly": (Plain(0.5, "heimlich"), Plain(0.5, "insgeheim")),
    "never": (Plain(0.6, "nie"), Plain(0.4, "niemals")),
    "today": (Plain(1.0, "heute"),),
}
ADVERB_FIRST = 0.3
"""Share of sentences with an adverb that begin with it; in the others it follows the object."""

PREPOSITIONS: dict[str, tuple[Plain, ...]] = {
    "near": (Plain(0.5, "bei"), Plain(0.5, "nahe")),
    "in": (Plain(1.0, "in"),),
    "behind": (Plain(1.0, "hinter"),),
}
