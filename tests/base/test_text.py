"""Normalisation and tokenisation of titles."""

from __future__ import annotations

import gzip
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rubro.base.text import first_names, normalise, tokenise, tokenise_with_spans

ROOT = Path(__file__).resolve().parent.parent.parent
SPANISH_TITLES = sorted((ROOT.parent / "shared/data/meli-es-2019").glob("spanish.*.jsonl.gz"))

# Characters that sellers type: European letters, digits, punctuation, white space and controls.
ORDINARY = st.text(
    st.characters(max_codepoint=0x24F, exclude_categories=("Cs", "Cf"))
    | st.sampled_from("\u2013\u2014\u2018\u2019\u201c\u201d•…€→❤")
)

# Any text, often with difficult characters: final sigmas, dots above, ligatures, surrogates, marks,
# joiners, variation selectors and letters that keep their marks.
ANY = st.text(
    st.characters()
    | st.sampled_from("Σςσİıŉǰẞﬁΐ\u0345\u0307\u1e9e\u200d\ud800\udfff\x00\x85")
    | st.sampled_from("\u0301\u0327\u0e4d\u3099\u093f\u093c\u05b8\u0653\u20e3\u200c\ufe0f\u034f")
    | st.sampled_from("कがｶนำ한ᄒءﷺשׁ中🈂㌀1_ ")
)

# Blocks of decomposed Latin, Greek (without Coptic) and Cyrillic letters, and of modifiers.
ACCENTED = re.compile(
    "[\0-\u02ff\u0370-\u03e1\u03f0-\u052f\u1c80-\u1c8f\u1d00-\u1dbf\u1e00-\u1fff\u2184"
    "\u2c60-\u2c7f\ua640-\ua69f\ua700-\ua7ff\uab30-\uab6f\U00010780-\U000107bf"
    "\U0001df00-\U0001dfff\U0001e030-\U0001e08f]"
)
# Blocks of scripts without spaces between words: South-East Asian, then Chinese and Japanese.
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff"
    "\uaa60-\uaadf\u3005\u3006\u3041-\u312f\u31a0-\u31ff\u3400-\ua48f\uf900-\ufaff"
    "\U0001aff0-\U0001b001\U0001b11f-\U0001b16f\U00020000-\U0003ffff]"
)


def real_titles(*paths: Path) -> Iterator[str]:
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["title"]


def is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Mc", "Me")


def is_invisible(char: str) -> bool:
    hidden = ("VARIATION SELECTOR", "GRAPHEME JOINER")
    return unicodedata.category(char) in ("Cf", "Cs") or any(
        words in unicodedata.name(char, "") for words in hidden
    )


def decomposed(title: str) -> str:
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).lower())


def by_definition(title: str) -> tuple[str, list[str]]:
    """Return normal form and tokens of a title by their definition, character by character."""
    kept = base = ""
    for char in decomposed(title):
        if is_invisible(char):
            continue
        if not is_mark(char):
            base = " " if unicodedata.category(char) == "Cc" else char
            kept += base
        elif base.isalpha() and not ACCENTED.match(base):
            kept += char
    normal = unicodedata.normalize("NFC", " ".join(kept.lower().split()))
    tokens: list[str] = []
    last = ""
    for char in normal:
        kind = last if is_mark(char) else kind_of(char)
        if is_mark(char) or (kind == last and kind in ("digit", "letter")):
            tokens[-1] += "0" if kind == "digit" else char
        elif kind != "blank":
            tokens.append("0" if kind == "digit" else char)
        last = kind
    return normal, tokens


def kind_of(char: str) -> str:
    if char.isspace():
        return "blank"
    if char.isdecimal():
        return "digit"
    if not char.isalnum():
        return "symbol"
    return "character" if char.isalpha() and WITHOUT_SPACES.match(char) else "letter"


@settings(max_examples=300)
@given(ANY)
def test_normal_form_and_tokens_are_stable(title: str) -> None:
    normal, tokens = normalise(title), tokenise(title)
    assert normalise(normal) == normal
    assert tokenise(normal) == tokens
    assert [tokenise(token) for token in tokens] == [[token] for token in tokens]


@settings(max_examples=300)
@given(ANY)
def test_any_text_follows_the_definition(title: str) -> None:
    assert (normalise(title), tokenise(title)) == by_definition(title)


def test_every_unicode_block_follows_the_definition() -> None:
    # Unicode allocates code points in units of 16, so every 13th one reaches each block.
    characters = [chr(point) for point in range(0, sys.maxunicode + 1, 13)]
    for start in range(0, len(characters), 50):
        title = "a1".join(characters[start : start + 50])
        assert (normalise(title), tokenise(title)) == by_definition(title), ascii(title)


@pytest.mark.skipif(not SPANISH_TITLES, reason="needs the real titles")
def test_real_spanish_titles_follow_the_definition() -> None:
    for title in real_titles(*SPANISH_TITLES):
        assert (normalise(title), tokenise(title)) == by_definition(title), title


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
        ("\u200b", []),
        ("lám\u00adpara", ["lampara"]),
        ("\ufeffmesa", ["mesa"]),
    ],
)
def test_spanish_titles(title: str, tokens: list[str]) -> None:
    assert tokenise(title) == tokens


def test_long_title_is_tokenised_completely() -> None:
    assert tokenise("mesa " * 200_000) == ["mesa"] * 200_000


@pytest.mark.parametrize("title", ["Vans™", "№ 5", "20℃", "\u2102"])
def test_normal_form_is_lower_case(title: str) -> None:
    assert normalise(title) == normalise(title).lower()


@pytest.mark.parametrize(
    ("title", "tokens"),
    [
        ("केला पैक 12", ["केला", "पैक", "00"]),  # Hindi
        ("क्षमा", ["क्षमा"]),
        ("पुस्तक १२", ["पुस्तक", "00"]),
        ("தேங்காய் எண்ணெய்", ["தேங்காய்", "எண்ணெய்"]),  # Tamil
        ("ಚಹಾ ಕಪ್", ["ಚಹಾ", "ಕಪ್"]),  # Kannada
        ("휴대폰 케이스", ["휴대폰", "케이스"]),  # Korean
        ("أحمر شاي", ["أحمر", "شاي"]),  # Arabic
        ("ﻗﻠﻢ", ["قلم"]),
        ("می\u200cخرم", ["میخرم"]),  # Persian
        ("שָׁלוֹם שלום", ["שָׁלוֹם", "שלום"]),  # Hebrew
        ("Чёрный чайник", ["черныи", "чаиник"]),  # Russian
        ("Μπλέ ΚΑΦΈΣ Ὦμος", ["μπλε", "καφες", "ωμος"]),  # Greek
        ("Điện thoại", ["đien", "thoai"]),  # Vietnamese
        ("բաժակ", ["բաժակ"]),  # Armenian
        ("ჩაი", ["ჩაი"]),  # Georgian
    ],
)
def test_other_scripts_keep_their_marks(title: str, tokens: list[str]) -> None:
    assert tokenise(title) == [unicodedata.normalize("NFC", token) for token in tokens]


@pytest.mark.parametrize(
    ("title", "tokens"),
    [
        ("红色手机壳", "红 色 手 机 壳"),  # Chinese
        ("华为P30手机, 128GB", "华 为 p 00 手 机 , 000 gb"),
        ("iPhone 13 ケース", "iphone 00 ケ ー ス"),  # Japanese
        ("がか", "が か"),
        ("ガス・ｶﾞｽ", "ガ ス ・ ガ ス"),
        ("人々", "人 々"),
        ("ㄅㄆ", "ㄅ ㄆ"),  # Bopomofo
        ("เสื้อสีแดง", "เ สื้ อ สี แ ด ง"),  # Thai
        ("ข้าว ข่าว ขาว", "ข้ า ว ข่ า ว ข า ว"),
        ("๕ ชิ้น", "0 ชิ้ น"),
        ("ເຂົ້າ", "ເ ຂົ້ າ"),  # Lao
        ("ទឹក", "ទឹ ក"),  # Khmer
        ("ရေ", "ရေ"),  # Myanmar
        ("ꀀꀁ", "ꀀ ꀁ"),  # Yi
    ],
)
def test_characters_of_scripts_without_spaces_are_tokens(title: str, tokens: str) -> None:
    assert tokenise(title) == tokens.split()


@pytest.mark.parametrize("title", ["\u3099", " \u093e", "5\u093e", "-\u3099", "a\u093e", "я\u3099"])
def test_mark_without_letter_or_after_accented_letter_is_stripped(title: str) -> None:
    assert normalise(title) == title[:-1].strip()


@settings(max_examples=300)
@given(ORDINARY | ANY)
def test_token_characters_have_increasing_places(title: str) -> None:
    found = tokenise_with_spans(title)
    assert [token for token, _ in found] == tokenise(title)
    before = (0, 0)
    for token, places in found:
        assert len(places) == len(token)
        for start, end in places:
            assert 0 <= start < end <= len(title)
            assert (start, end) == before or start >= before[1]
            before = (start, end)
        # The text at these places contains the token, and more if one character has several tokens.
        # Case is ignored because a sigma can be final in this part but not in the title.
        written = title[places[0][0] : places[-1][1]]
        assert token.upper() in "".join(tokenise(written)).upper()


@pytest.mark.parametrize(
    ("title", "texts"),
    [
        ("Lámpara  Ñandú-32W", ["Lámpara", "Ñandú", "-", "32", "W"]),
        ("La\u0301mpara\u200b Ele\u200dctrica", ["La\u0301mpara\u200b", "Ele\u200dctrica"]),
        ("a½b", ["a", "½", "½", "½", "b"]),
        ("ﬁn™ x", ["ﬁn™", "x"]),
        ("iPhone ケース", ["iPhone", "ケ", "ー", "ス"]),
        ("ｶﾞ한글 \u1112\u1161\u11ab", ["ｶﾞ", "한글", "\u1112\u1161\u11ab"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("\x00 \ufe0f", []),
    ],
)
def test_tokens_have_places_of_their_text(title: str, texts: list[str]) -> None:
    found = tokenise_with_spans(title)
    assert [title[places[0][0] : places[-1][1]] for _, places in found] == texts


@pytest.mark.skipif(not SPANISH_TITLES, reason="needs the real titles")
def test_tokens_of_real_titles_have_places_of_their_text() -> None:
    for title in real_titles(SPANISH_TITLES[0]):
        for token, places in tokenise_with_spans(title):
            written = title[places[0][0] : places[-1][1]]
            assert token in "".join(tokenise(written))


def test_a_few_names_are_listed_and_the_others_are_counted() -> None:
    assert first_names([]) == ""
    assert first_names(["a", "b", "c"]) == "a, b, c"
    assert first_names(["a" * 100, *"bcd"]) == f"{'a' * 80}, b, c and 1 more"
    assert first_names(["a"] * 2003).endswith("a and 2,000 more")
