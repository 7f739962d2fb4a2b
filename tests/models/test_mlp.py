"""The MLP: what it is given, and what it cannot tell."""

from __future__ import annotations

import numpy as np

from support.tiny_models import MakeNetwork, MakeTitles, logits_of

pytest_plugins = ["support.tiny_models"]


def test_the_mlp_tells_word_order_by_bigrams_alone(
    make_network: MakeNetwork, make_titles: MakeTitles
) -> None:
    texts = ["apple drill", "drill apple"]
    titles, tokens = make_titles(texts)
    first, second = logits_of(make_network("mlp"), titles, tokens)
    assert np.abs(first - second).max() > 1e-3
    titles, tokens = make_titles(texts, bigram_buckets=0)
    first, second = logits_of(make_network("mlp", bigram_buckets=0), titles, tokens)
    np.testing.assert_allclose(first, second, atol=1e-5)
