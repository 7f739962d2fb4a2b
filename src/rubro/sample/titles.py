"""Synthetic product titles: words of a category, in a seller's order and with a seller's errors.

Only `random.Random.random` is used: the algorithms of the other methods of that class may change
between Python versions, and with them the committed sample.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate

from .words import Category, Shared

MAX_CHARACTERS = 60

# Shares of titles; together they decide how difficult the catalogue is.
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
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_COMBINING = re.compile("[\u0300-\u036f]+")
_TOKEN = re.compile(r"[^\W_]+")
_BLANK = re.compile("[#@]")

Draw = Callable[[], float]


def strip_accents(text: str) -> str:
    """Remove the accents of Latin letters (ñ becomes n).

    Args:
        text: Any text.

    Returns:
        Text without combining marks.
    """
    if text.isascii():
        return text
    return _COMBINING.sub("", unicodedata.normalize("NFD", text))


def tokenize_title(title: str, stop_words: Collection[str]) -> list[str]:
    """Split a title as the catalogue's `tokenized_title` does.

    Args:
        title: Product title.
        stop_words: Tokens to leave out, in lower case and without accents.

    Returns:
        Tokens of two or more letters, in lower case and without accents.
    """
    return [
        token
        for token in _TOKEN.findall(strip_accents(title.lower()))
        if len(token) > 1 and token.isalpha() and token not in stop_words
    ]


class WeightedChoice:
    """Random choice of a position in proportion to weights.

    Args:
        weights: Weight of each position, >= 0, not all zero.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._cumulative = list(accumulate(weights))
        self._last = len(weights) - 1

    def __call__(self, draw: float) -> int:
        """Return a position.

        Args:
            draw: Random number in [0, 1).
        """
        return min(bisect(self._cumulative, draw * self._cumulative[-1]), self._last)


class _Vocabulary:
    """Words of one category in one language."""

    def __init__(self, name: str, shared: Shared, categories: Mapping[str, Category], pt: bool):
        category = categories[name]
        self.nouns = (category.portuguese or []) if pt else category.nouns
        self.brands = list(category.brands)
        self.models = list(category.brands.values())
        self.features = category.features
        if pt:
            self.features = [_translate(f, shared.translations) for f in category.features]
        self.attributes = [shared.kinds[kind].spellings(pt) for kind in category.attributes]
        fitted = categories[category.fits].brands if category.fits else {}
        self.fits = [(brand, models) for brand, models in fitted.items()]
        self.companions = [
            noun
            for neighbour in category.neighbours
            for noun in ((categories[neighbour].portuguese if pt else None) or [])[:3]
            or categories[neighbour].nouns[:3]
        ]


def _translate(phrase: str, translations: Mapping[str, str]) -> str:
    return " ".join(translations.get(word, word) for word in phrase.split(" "))


class TitleMaker:
    """Writes titles in one language.

    Args:
        language: "spanish" or "portuguese".
        names: Categories in the order of their indices, each with nouns in the language.
        shared: Shared word lists.
        categories: Lexicon.
        draw: Function that returns a random number in [0, 1), the only source of randomness.
    """

    def __init__(
        self,
        language: str,
        names: Sequence[str],
        shared: Shared,
        categories: Mapping[str, Category],
        draw: Draw,
    ) -> None:
        portuguese = language == "portuguese"
        self._draw = draw
        self._words = [_Vocabulary(name, shared, categories, portuguese) for name in names]
        glue = shared.glue.portuguese if portuguese else shared.glue.spanish
        self._fits, self._companion = glue.fits, glue.companion
        self._brand, self._model = glue.brand, glue.model
        self._noise = shared.noise.portuguese if portuguese else shared.noise.spanish
        self._short = (
            shared.abbreviations.portuguese if portuguese else shared.abbreviations.spanish
        )

    def _pick(self, options: Sequence[str]) -> str:
        return options[int(self._draw() * len(options))]

    def title(self, index: int) -> str:
        """Return a title.

        Args:
            index: Position of the category in `names`.

        Returns:
            Title of at most 60 characters, mostly of 4 to 12 words.
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
            text = self._glue(text)
        if draw() < NO_ACCENTS:
            text = strip_accents(text)
        if draw() < PUNCTUATED:
            text = self._punctuate(text)
        return text[:MAX_CHARACTERS].rstrip()

    def _compose(self, words: _Vocabulary) -> str:
        draw = self._draw
        brand = model = ""
        if words.brands and draw() < HAS_BRAND:
            # Squared, so that the first brands of a category are its popular ones.
            at = int(draw() ** 1.6 * len(words.brands))
            brand, models = words.brands[at], words.models[at]
            if models and draw() < HAS_MODEL:
                model = models[int(draw() * len(models))]
                if draw() < MODEL_WITHOUT_BRAND:
                    brand = ""
        noun = ""
        if not model or draw() >= NO_NOUN:
            noun = words.nouns[int(draw() ** 1.7 * len(words.nouns))]
            if " " in noun and draw() < SHORT_NOUN:
                noun = noun[: noun.index(" ")]
        rest = self._details(words)
        order = draw()
        if brand and order > 0.9:
            brand = f"{self._pick(self._brand)} {brand}".lstrip()
        if model and order > 0.8:
            model = f"{self._pick(self._model)} {model}".lstrip()
        if order < 0.48:
            parts = [noun, brand, model, *rest]
        elif order < 0.68:
            parts = [noun, *rest[:1], brand, model, *rest[1:]]
        elif order < 0.80:
            parts = [noun, *rest, brand, model]
        elif order < 0.91:
            parts = [brand, model, noun, *rest]
        else:
            parts = [brand, noun, model, *rest]
        parts = [part for part in parts if part]
        if draw() < HAS_NOISE:
            noise = self._pick(self._noise)
            if draw() < 0.25:
                parts.insert(0, noise)
            else:
                parts.append(noise)
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
            target = models[int(draw() * len(models))] if models and draw() < 0.85 else ""
            if not target or draw() < 0.75:
                target = f"{brand} {target}".rstrip()
            details.append(f"{self._pick(self._fits)} {target}".lstrip())
        count, at = bisect(_FEATURES, draw()), int(draw() * len(words.features))
        for step in range(min(count, len(words.features))):
            details.append(words.features[(at + 3 * step) % len(words.features)])
        if words.attributes:
            at = int(draw() * len(words.attributes))
            for step in range(min(bisect(_ATTRIBUTES, draw()), len(words.attributes))):
                details.append(self._pick(words.attributes[(at + step) % len(words.attributes)]))
        if words.companions and draw() < HAS_COMPANION:
            details.append(f"{self._pick(self._companion)} {self._pick(words.companions)}")
        if len(details) > 1:
            # One random exchange is enough to mix two to five details.
            one, other = int(draw() * len(details)), int(draw() * len(details))
            details[one], details[other] = details[other], details[one]
        return details

    def _fill(self, blank: re.Match[str]) -> str:
        draw = self._draw()
        return str(int(draw * 10)) if blank.group() == "#" else _LETTERS[int(draw * 26)]

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

    def _glue(self, text: str) -> str:
        gaps = text.count(" ")
        if not gaps:
            return text
        words = text.split(" ")
        at = int(self._draw() * gaps)
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
