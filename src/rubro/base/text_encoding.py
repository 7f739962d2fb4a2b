"""Check the names of text encodings."""

from __future__ import annotations

import codecs


def known_encoding(name: str) -> str:
    """Return the name that Python uses for a text encoding.

    Args:
        name: Any name of the encoding, such as "latin-1" or "UTF8".

    Raises:
        ValueError: Python does not have a text encoding of that name.
    """
    try:
        ("a\n" * 99).encode(name)  # unlike codecs.lookup, refuses codecs for bytes and host names
    except (LookupError, ValueError):
        raise ValueError(
            "Input should be a text encoding such as utf-8, latin-1 or utf-16"
        ) from None
    return codecs.lookup(name).name
