"""Compose synthetic product titles from the words of a category, with the errors that sellers make.

The only random method is `random.Random.random`. The algorithms of the other methods of that class
may change between Python versions, and the committed sample would change with them.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Callable, Collection, Mapping, Sequence
from string import ascii_uppercase, digits

from rubro.sample.words import LexiconEntry, Shared

MAX_CHARACTERS = 60

# Shares of titles. Together they determine how difficult the catalogue is.
NO_NOUN = 0.27
SHORT_NOUN = 0.32
HAS_BRAND = 0.70
HAS_MODEL = 0.74
MODEL_WITHOUT_BRAND = 0.10
HAS_FITS = 0.62
HAS_COMPANION = 0.22
HAS_NOISE = 0.46
ABBREVIATED = 0.32
SWAPPED_WORDS = 0.07
GLUED_WORDS = 0.05
TYPO = 0.22
NO_ACCENTS = 0.62
PUNCTUATED = 0.13

_FEATURES = (0.40, 0.82, 0.96)
_ATTRIBUTES = (0.38, 0.84)
_MARKS = ("!", "!!", "!!!", "**", " -", ".", "...", " *", " /")
_SEPARATORS = (" - ", " / ", ", ", " | ", ". ", " + ", "- ", " -")

_COMBINING = re.compile("[\u0300-\u036f]+")
_TOKEN = re.compile(r"[^\W_]+")
_BLANK = re.compile("[#@]")


def strip_accents(text: str) -> str:
    """Return a text without the accents of its Latin letters (ñ becomes n)."""
    if text.isascii():
        return text
    return _COMBINING.sub("", unicodedata.normalize("NFD", text))


def tokenize_title(title: str, stop_words: Collection[str]) -> list[str]:
    """Split a title into the tokens of the `tokenized_title` column.

    Args:
        title: Product title.
        stop_words: Words to leave out, in lower case and without accents.

    Returns:
        Tokens of two or more letters, in lower case and without accents.
    """
    return [
        token
        for token in _TOKEN.findall(strip_accents(title.lower()))
        if len(token) > 1 and token.isalpha() and token not in stop_words
    ]


class _Vocabulary:
    """Words that titles of one category in one language are composed of."""

    def __init__(
        self, name: str, language: str, shared: Shared, lexicon: Mapping[str, LexiconEntry]
    ) -> None:
        entry, portuguese = lexicon[name], language == "portuguese"
        self.nouns = (entry.portuguese or []) if portuguese else entry.nouns
        self.brands = list(entry.brands.items())
        self.features = entry.features
        if portuguese:
            self.features = [
                " ".join(shared.translations.get(word, word) for word in feature.split(" "))
                for feature in entry.features
            ]
        self.attributes = [shared.kinds[kind].spellings(portuguese) for kind in entry.attributes]
        self.fits = list(lexicon[entry.fits].brands.items()) if entry.fits else []
        self.companions = [
            noun
            for neighbour in map(lexicon.__getitem__, entry.neighbours)
            for noun in ((portuguese and neighbour.portuguese) or neighbour.nouns)[:3]
        ]


class TitleMaker:
    """Composes product titles in one language.

    Args:
        language: "spanish" or "portuguese".
        names: Names of the categories, by index; each category has nouns in the language.
        shared: Word lists that all categories share.
        lexicon: Words of each category, by category name.
        draw: Function that returns a random number in [0, 1); the only source of randomness.
    """

    def __init__(
        self,
        language: str,
        names: Sequence[str],
        shared: Shared,
        lexicon: Mapping[str, LexiconEntry],
        draw: Callable[[], float],
    ) -> None:
        self._draw = draw
        self._words = [_Vocabulary(name, language, shared, lexicon) for name in names]
        self._connectors = shared.glue[language]
        self._noise = shared.noise[language]
        self._short = shared.abbreviations[language]

    def _pick(self, options: Sequence[str]) -> str:
        return options[int(self._draw() * len(options))]

    def title(self, index: int) -> str:
        """Compose a random title of at most 60 characters, usually of 4 to 12 words.

        Args:
            index: Position of the category in `names`.
        """
        draw = self._draw
        text = self._compose(self._words[index])
        if "#" in text or "@" in text:
            text = _BLANK.sub(self._fill, text)
        if draw() < ABBREVIATED:
            text = self._abbreviate(text)
        if draw() < SWAPPED_WORDS:
            text = self._swap(text)
        text = self._case(self._fit(text))
        if draw() < TYPO:
            text = self._misspell(text)
        if draw() < GLUED_WORDS:
            text = self._join_words(text)
        if draw() < NO_ACCENTS:
            text = strip_accents(text)
        if draw() < PUNCTUATED:
            text = self._punctuate(text)
        return text[:MAX_CHARACTERS].rstrip()

    def _compose(self, words: _Vocabulary) -> str:
        draw = self._draw
        brand = model = ""
        if words.brands and draw() < HAS_BRAND:
            # A power above 1 favours the first brands of a category, which are its popular ones.
            brand, models = words.brands[int(draw() ** 1.6 * len(words.brands))]
            if models and draw() < HAS_MODEL:
                model = self._pick(models)
                if draw() < MODEL_WITHOUT_BRAND:
                    brand = ""
        noun = ""
        if not model or draw() >= NO_NOUN:
            noun = words.nouns[int(draw() ** 1.7 * len(words.nouns))]
            if " " in noun and draw() < SHORT_NOUN:
                noun = noun[: noun.index(" ")]
        details = self._details(words)
        order = draw()
        if brand and order > 0.9:
            brand = f"{self._pick(self._connectors.brand)} {brand}".lstrip()
        if model and order > 0.8:
            model = f"{self._pick(self._connectors.model)} {model}".lstrip()
        if order < 0.48:
            parts = [noun, brand, model, *details]
        elif order < 0.68:
            parts = [noun, *details[:1], brand, model, *details[1:]]
        elif order < 0.80:
            parts = [noun, *details, brand, model]
        elif order < 0.91:
            parts = [brand, model, noun, *details]
        else:
            parts = [brand, noun, model, *details]
        parts = [part for part in parts if part]
        if draw() < HAS_NOISE:
            noise = self._pick(self._noise)
            parts.insert(0 if draw() < 0.25 else len(parts), noise)
        text = " ".join(parts)
        if text.count(" ") < 3:
            extra = self._noise if draw() < 0.6 else words.features
            text = f"{text} {self._pick(extra)}"
        return text

    def _details(self, words: _Vocabulary) -> list[str]:
        draw = self._draw
        details: list[str] = []
        if words.fits and draw() < HAS_FITS:
            brand, models = words.fits[int(draw() ** 1.6 * len(words.fits))]
            target = self._pick(models) if models and draw() < 0.85 else ""
            if not target or draw() < 0.75:
                target = f"{brand} {target}".rstrip()
            details.append(f"{self._pick(self._connectors.fits)} {target}".lstrip())
        count, at = bisect(_FEATURES, draw()), int(draw() * len(words.features))
        for step in range(min(count, len(words.features))):
            details.append(words.features[(at + 3 * step) % len(words.features)])
        if words.attributes:
            at = int(draw() * len(words.attributes))
            for step in range(min(bisect(_ATTRIBUTES, draw()), len(words.attributes))):
                details.append(self._pick(words.attributes[(at + step) % len(words.attributes)]))
        if words.companions and draw() < HAS_COMPANION:
            details.append(
                f"{self._pick(self._connectors.companion)} {self._pick(words.companions)}"
            )
        if len(details) > 1:
            # A single random swap mixes two to five details well enough.
            one, other = int(draw() * len(details)), int(draw() * len(details))
            details[one], details[other] = details[other], details[one]
        return details

    def _fill(self, blank: re.Match[str]) -> str:
        return self._pick(digits if blank.group() == "#" else ascii_uppercase)

    def _abbreviate(self, text: str) -> str:
        words = text.split(" ")
        for at, word in enumerate(words):
            forms = self._short.get(word)
            if forms and self._draw() < 0.7:
                words[at] = self._pick(forms)
        text = " ".join(words)
        return text.replace("/ ", "/", 1) if self._draw() < 0.6 else text

    def _swap(self, text: str) -> str:
        words = text.split(" ")
        at = int(self._draw() * len(words))
        words[at], words[at - 1] = words[at - 1], words[at]
        return " ".join(words)

    def _fit(self, text: str) -> str:
        if len(text) <= MAX_CHARACTERS:
            return text
        cut = text[:MAX_CHARACTERS]
        if text[MAX_CHARACTERS] == " " or self._draw() < 0.25:
            return cut.rstrip()
        return cut[: cut.rindex(" ")].rstrip() if " " in cut else cut

    def _case(self, text: str) -> str:
        style = self._draw()
        if style < 0.76:
            return text.title()
        if style < 0.84:
            return text.upper()
        if style < 0.91:
            return text.lower()
        if style < 0.97:
            return text[:1].upper() + text[1:]
        return text

    def _misspell(self, text: str) -> str:
        words = text.split(" ")
        at = int(self._draw() * len(words))
        word = words[at]
        if len(word) < 4 or not word.isalpha():
            at = max(range(len(words)), key=lambda i: (words[i].isalpha(), len(words[i])))
            word = words[at]
            if len(word) < 4:
                return text
        place = 1 + int(self._draw() * (len(word) - 2))
        how = self._draw()
        if how < 0.35:
            word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        elif how < 0.75:
            word = word[:place] + word[place + 1 :]
        else:
            word = word[: place + 1] + word[place].lower() + word[place + 1 :]
        words[at] = word
        return " ".join(words)

    def _join_words(self, text: str) -> str:
        words = text.split(" ")
        if len(words) == 1:
            return text
        at = int(self._draw() * (len(words) - 1))
        words[at : at + 2] = [words[at] + words[at + 1]]
        return " ".join(words)

    def _punctuate(self, text: str) -> str:
        draw = self._draw()
        if draw < 0.45:
            text += self._pick(_MARKS)
        elif draw < 0.55:
            text = f"** {text} **"
        elif draw < 0.62:
            text = text.replace(" ", "  ", 1)
        elif " " in text:
            words = text.split(" ")
            at = 1 + int(self._draw() * (len(words) - 1))
            text = " ".join(words[:at]) + self._pick(_SEPARATORS) + " ".join(words[at:])
        return text
