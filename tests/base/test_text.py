"""Titles to tokens: what counts as the same title, and what a token is."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rubro.base.text import normalise, tokenise

# What sellers type: letters of European languages, digits, punctuation, white space, controls.
ORDINARY = st.text(
    st.characters(max_codepoint=0x24F, exclude_categories=("Cs", "Cf"))
    | st.sampled_from("\u2013\u2014\u2018\u2019\u201c\u201d•…€→❤")
)


# Any text at all, with what is known to be awkward: final sigmas, dots above, ligatures, surrogates.
ANY = st.text(
    st.characters() | st.sampled_from("Σςσİıŉǰẞﬁΐ\u0345\u0307\u1e9e\u200d\ud800\udfff\x00\x85")
)


@settings(max_examples=300)
@given(ANY)
def test_any_text_has_one_normal_form_and_tokens_that_are_their_own(title: str) -> None:
    normal, tokens = normalise(title), tokenise(title)
    assert normalise(normal) == normal
    assert tokenise(normal) == tokens
    assert [tokenise(token) for token in tokens] == [[token] for token in tokens]


def by_definition(title: str) -> tuple[str, list[str]]:
    """Normal form and tokens, character by character."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).lower())
    dropped = ("Mn", "Mc", "Me", "Cf", "Cs")
    visible = [c for c in decomposed if unicodedata.category(c) not in dropped]
    blank = "".join(" " if unicodedata.category(c) == "Cc" else c for c in visible)
    normal = " ".join(blank.lower().split())
    return normal, re.findall(r"[^\W\d_]+|0+|[^\w\s]|_", re.sub(r"\d", "0", normal))


@settings(max_examples=300)
@given(ANY)
def test_any_text_has_the_normal_form_and_tokens_of_their_definition(title: str) -> None:
    assert (normalise(title), tokenise(title)) == by_definition(title)


def test_a_character_of_every_block_has_the_normal_form_of_its_definition() -> None:
    # Unicode allots code points in units of 16: with every 13th, each block has one.
    every = [chr(point) for point in range(0, sys.maxunicode + 1, 13)]
    for start in range(0, len(every), 50):
        title = "a1".join(every[start : start + 50])
        assert (normalise(title), tokenise(title)) == by_definition(title), ascii(title)


@given(ORDINARY)
def test_normalising_twice_changes_nothing(title: str) -> None:
    assert normalise(normalise(title)) == normalise(title)


@given(ORDINARY)
def test_two_titles_with_the_same_normal_form_have_the_same_tokens(title: str) -> None:
    assert tokenise(normalise(title)) == tokenise(title)


@given(ORDINARY)
def test_how_accents_are_encoded_and_outer_blanks_make_no_difference(title: str) -> None:
    decomposed = unicodedata.normalize("NFD", title)
    assert normalise(f"  {decomposed}\t\n") == normalise(title)


@given(st.text())
def test_a_normal_form_has_no_white_space_but_single_blanks(title: str) -> None:
    normal = normalise(title)
    assert normal == " ".join(normal.split())
    assert not any(unicodedata.category(char) == "Cc" for char in normal)


@given(st.text())
def test_tokens_are_the_whole_title_without_blanks(title: str) -> None:
    letters = "".join("0" if char.isdecimal() else char for char in normalise(title))
    assert "".join(tokenise(title)) == letters.replace(" ", "")


@given(st.text())
def test_no_token_mixes_letters_digits_and_symbols(title: str) -> None:
    for token in tokenise(title):
        assert token
        assert not any(char.isspace() for char in token)
        assert len(token) == 1 or set(token) == {"0"} or not (set(token) & set("0_-+,.\"'"))


@pytest.mark.parametrize(
    ("title", "tokens"),
    [
        ("Cámara Ñandú ÜBER", ["camara", "nandu", "uber"]),
        ("talle 38/40", ["talle", "00", "/", "00"]),
        ("32w", ["00", "w"]),
        ("a_b", ["a", "_", "b"]),
        ('TV 24"', ["tv", "00", '"']),
        ("2²", ["00"]),
        ("٣ sillas", ["0", "sillas"]),
        ("straße STRASSE", ["straße", "strasse"]),
        ("mesa\u00a0ratona\x00roja", ["mesa", "ratona", "roja"]),
        ("", []),
        (" \t\n", []),
        ("\u0301", []),
    ],
)
def test_titles_are_split_as_a_reader_would(title: str, tokens: list[str]) -> None:
    assert tokenise(title) == tokens


def test_a_long_title_is_tokenised_in_full() -> None:
    assert tokenise("mesa " * 200_000) == ["mesa"] * 200_000


@pytest.mark.parametrize("title", ["Vans™", "№ 5", "20℃", "\u2102"])
def test_a_normal_form_is_lower_case(title: str) -> None:
    assert normalise(title) == normalise(title).lower()


@pytest.mark.parametrize(
    ("title", "tokens"),
    [
        ("\u200b", []),
        ("lám\u00adpara", ["lampara"]),
        ("\ufeffmesa", ["mesa"]),
    ],
)
def test_invisible_characters_are_no_tokens(title: str, tokens: list[str]) -> None:
    assert tokenise(title) == tokens
