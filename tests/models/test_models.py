"""The classifiers see a title, and nothing but the title."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rubro.base.params import CnnParams, MlpParams, Params, TrainParams
from rubro.features.embedding import Embedding, Subwords
from rubro.features.titles import TitleFeatures, Tokens
from rubro.models.batches import Batch, gather
from rubro.models.cnn import Cnn
from rubro.models.folder import Origin, load_model, save_model
from rubro.models.layers import Classifier, ModelShape, RowTable, TokenVectors
from rubro.models.mlp import Mlp
from rubro.prediction.calibration import Calibration

pytest_plugins = ["helpers"]

MakeFeatures = Callable[..., tuple[TitleFeatures, Tokens]]
MakeHyperparameters = Callable[..., TrainParams]
MakeModel = Callable[..., Classifier]
Save = Callable[..., Classifier]
Learnable = tuple[TitleFeatures, TitleFeatures, Tokens]

CLASSES = 4
KINDS: dict[str, Any] = {"mlp": Mlp, "cnn": Cnn}
ORIGIN = Origin.of_here(torch.device("cpu"), devices=1)
PARAMS: dict[str, type[TrainParams]] = {"mlp": MlpParams, "cnn": CnnParams}
both = pytest.mark.parametrize("kind", list(KINDS))


def token_vectors(model: Classifier, batch: Batch) -> torch.Tensor:
    """float32 (B, L, vector size)."""
    return torch.nn.functional.embedding(batch.tokens, model.token_vectors.distinct(batch))


@pytest.fixture
def make_model(embedding: Embedding, hyperparameters: MakeHyperparameters) -> MakeModel:
    """A model in evaluation mode, every weight of which is random: even the bigrams'."""

    def make(kind: str, bigram_buckets: int = 64, **overrides: Any) -> Classifier:
        torch.manual_seed(3)
        rows, size = embedding.table.shape
        shape = ModelShape(rows, size, bigram_buckets, CLASSES)
        model: Classifier = KINDS[kind](shape, hyperparameters(kind, **overrides))
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.5)
        return model.eval()

    return make


def logits_of(
    model: nn.Module, features: TitleFeatures, rows: Tokens, titles: list[int]
) -> np.ndarray:
    weights = np.ones(len(features), np.float32)
    with torch.inference_mode():
        result: np.ndarray = model(gather(features, rows, np.array(titles), weights)).numpy()
    return result


@both
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"hidden_sizes": []},
        {"hidden_sizes": [8, 8]},
        {"pooling": "mean"},
        {"dropout": 0.5},
    ],
)
def test_the_logits_of_a_title_do_not_depend_on_its_batch_mates(
    kind: str, overrides: dict[str, Any], make_model: MakeModel, learnable: Learnable
) -> None:
    features, _, rows = learnable
    model = make_model(kind, **overrides)
    alone = np.concatenate([logits_of(model, features, rows, [i]) for i in range(40)])
    together = logits_of(model, features, rows, list(range(40)))
    backwards = logits_of(model, features, rows, list(range(39, -1, -1)))[::-1]
    twice = logits_of(model, features, rows, [i // 2 for i in range(80)])[::2]
    for other in (together, backwards, twice):
        np.testing.assert_allclose(alone, other, atol=1e-5)
    assert np.ptp(alone, axis=0).min() > 0.1


@both
def test_a_long_batch_mate_does_not_change_a_short_title(
    kind: str, make_model: MakeModel, make_features: MakeFeatures
) -> None:
    features, rows = make_features(["", "apple", "apple drill", " ".join(["boot", "saw"] * 9)])
    model = make_model(kind)
    together = logits_of(model, features, rows, [0, 1, 2, 3])
    for index in range(4):
        np.testing.assert_allclose(
            logits_of(model, features, rows, [index])[0], together[index], atol=1e-5
        )


@both
def test_empty_titles_have_finite_logits_alone_and_among_others(
    kind: str, make_model: MakeModel, make_features: MakeFeatures
) -> None:
    features, rows = make_features(["", "apple drill", ""])
    model = make_model(kind)
    alone, among = (logits_of(model, features, rows, titles) for titles in ([0, 2], [0, 1, 2]))
    assert np.isfinite(among).all()
    np.testing.assert_allclose(alone[0], among[0], atol=1e-5)
    np.testing.assert_allclose(alone[0], alone[1], atol=1e-5)


@both
def test_a_batch_of_empty_titles_has_finite_gradients(
    kind: str, make_model: MakeModel, make_features: MakeFeatures
) -> None:
    features, rows = make_features(["", ""])
    model = make_model(kind).train()
    loss = model(gather(features, rows, np.array([0, 1]), np.ones(2, np.float32))).square().sum()
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    for gradient in gradients:
        assert bool(torch.isfinite(gradient.to_dense()).all())


@both
def test_a_token_without_rows_counts_as_a_vector_of_zeros(
    kind: str, hyperparameters: MakeHyperparameters, make_features: MakeFeatures
) -> None:
    subwords = Subwords({"apple": 1}, 1, 0, 0, titles=1)
    features, rows = make_features(["zzz", "apple zzz", "zzz zzz apple"], subwords=subwords)
    torch.manual_seed(0)
    model: Classifier = KINDS[kind](ModelShape(1, 4, 64, CLASSES), hyperparameters(kind)).eval()
    model.token_vectors.start_from(Embedding(subwords, np.ones((1, 4), np.float32)), None, True)
    batch = gather(features, rows, np.arange(3), np.ones(3, np.float32))
    vectors = token_vectors(model, batch).detach()
    assert vectors.abs().sum(2).bool().tolist() == [
        [False, False, False],
        [True, False, False],
        [False, False, True],
    ]
    assert bool(torch.isfinite(model(batch)).all())


def test_the_mlp_tells_word_order_by_bigrams_alone(
    make_model: MakeModel, make_features: MakeFeatures
) -> None:
    titles = ["apple drill", "drill apple"]
    features, rows = make_features(titles)
    first, second = logits_of(make_model("mlp"), features, rows, [0, 1])
    assert np.abs(first - second).max() > 1e-3
    features, rows = make_features(titles, bigram_buckets=0)
    first, second = logits_of(make_model("mlp", bigram_buckets=0), features, rows, [0, 1])
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_the_cnn_tells_word_order_by_filters_that_span_tokens(
    make_model: MakeModel, make_features: MakeFeatures
) -> None:
    features, rows = make_features(["apple drill", "drill apple"], bigram_buckets=0)
    one, two = (make_model("cnn", filter_sizes=[size], bigram_buckets=0) for size in (1, 2))
    first, second = logits_of(two, features, rows, [0, 1])
    assert np.abs(first - second).max() > 1e-3
    first, second = logits_of(one, features, rows, [0, 1])
    np.testing.assert_allclose(first, second, atol=1e-5)


def given_to(layer: nn.Module, model: nn.Module, batch: Batch) -> torch.Tensor:
    """What a layer of a model is given for a batch."""
    received: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: received.append(*inputs))
    with torch.inference_mode():
        model(batch)
    handle.remove()
    return received[0]


@pytest.mark.parametrize(("pooling", "root"), [("mean", 1.0), ("sqrt", 0.5)])
def test_the_cnn_takes_the_maximum_over_windows_and_pools_the_tokens(
    pooling: str, root: float, make_model: MakeModel, make_features: MakeFeatures
) -> None:
    titles = ["apple drill saw", "boot", "red new apple drill boot"]
    features, rows = make_features(titles, bigram_buckets=0)
    model: Any = make_model("cnn", filter_sizes=[1, 3], pooling=pooling, bigram_buckets=0)
    batch = gather(features, rows, np.arange(3), np.ones(3, np.float32))
    maxima, pooled_tokens = [], []
    with torch.inference_mode():
        for title, length in zip(token_vectors(model, batch), batch.lengths.tolist(), strict=True):
            padded = torch.cat([title[:length], title.new_zeros(2, title.shape[1])])
            over_windows = [
                torch.stack([filters(padded[i : i + size].flatten()) for i in range(length)])
                for size, filters in zip((1, 3), model.filters, strict=True)
            ]
            maxima.append(torch.cat([windows.relu().amax(0) for windows in over_windows]))
            pooled_tokens.append(padded.sum(0) / length**root)
    for layer, expected in ((model.dense, maxima), (model.wide, pooled_tokens)):
        inputs = given_to(layer, model, batch)
        torch.testing.assert_close(inputs, torch.stack(expected), atol=1e-5, rtol=1e-5)


def plain_cnn(model: Any, features: TitleFeatures, rows: Tokens) -> torch.Tensor:
    """The logits of a CNN by the book: title by title, a linear layer over each window."""
    table = model.token_vectors.table.weight
    size = table.shape[1]
    inputs, pooled_tokens = [], []
    for index in range(len(features)):
        tokens = [rows[token] for token in features.tokens[index]]
        vectors = [table[own].sum(0) / len(own) ** 0.5 for own in tokens]
        title = torch.stack([*vectors, torch.zeros(size)])[: len(vectors)]
        maxima = []
        for filters in model.filters:
            span = filters.in_features // size
            padded = torch.cat([title, torch.zeros(span, size)])
            windows = padded.unfold(0, span, 1).transpose(1, 2).flatten(1)[: len(vectors)]
            none = torch.zeros(1, filters.out_features)
            maxima.append(torch.cat([filters(windows).relu(), none]).amax(0))
        inputs.append(torch.cat(maxima))
        pooled_tokens.append(title.sum(0) / max(len(vectors), 1) ** 0.5)
    logits: torch.Tensor = model.dense(torch.stack(inputs)) + model.wide(torch.stack(pooled_tokens))
    return logits


def test_the_cnn_has_the_gradients_of_a_linear_layer_over_each_window(
    make_model: MakeModel, make_features: MakeFeatures
) -> None:
    titles = [
        "red apple drill saw",
        "",
        "boot",
        "apple apple",
        "saw red red apple boot new",
        "boot",
    ]
    features, rows = make_features(titles, [0, 1, 2, 3, 0, 1], bigram_buckets=0)
    model = make_model("cnn", filter_sizes=[1, 2, 3], bigram_buckets=0)
    batch = gather(features, rows, np.arange(len(titles)), np.ones(len(titles), np.float32))
    assert batch.lengths.tolist() == [4, 0, 1, 2, 6, 1]
    logits, gradients = [], []
    for outputs in (model(batch), plain_cnn(model, features, rows)):
        model.zero_grad()
        loss: Any = nn.functional.cross_entropy(outputs, batch.targets)
        loss.backward()
        logits.append(outputs)
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    assert {name.split(".")[0] for name in gradients[0]} == {
        "token_vectors",
        "filters",
        "dense",
        "wide",
    }
    for name, gradient in gradients[0].items():
        assert gradient is not None
        assert gradient.to_dense().any(), name
        torch.testing.assert_close(gradient.to_dense(), gradients[1][name], atol=1e-6, rtol=1e-4)


@both
@pytest.mark.parametrize(("pooling", "root"), [("mean", 1.0), ("sqrt", 0.5)])
def test_the_title_is_the_pooled_vectors_of_its_tokens_and_bigrams(
    kind: str, pooling: str, root: float, make_model: MakeModel, make_features: MakeFeatures
) -> None:
    features, rows = make_features(["apple drill saw", "boot", ""])
    batch = gather(features, rows, np.arange(3), np.ones(3, np.float32))
    model: Any = make_model(kind, pooling=pooling)
    expected = []
    with torch.inference_mode():
        for index, title in enumerate(token_vectors(model, batch)):
            parts = list(title[: len(features.tokens[index])])
            parts += [model.bigrams.weight[bucket] for bucket in features.bigrams[index].tolist()]
            total = sum(parts, torch.zeros(title.shape[1]))
            expected.append(total / max(len(parts), 1) ** root)
    title = given_to(model.dense if kind == "mlp" else model.wide, model, batch)
    torch.testing.assert_close(title, torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden_sizes", [[], [8]])
def test_the_skip_connection_adds_a_linear_path_from_the_title_vector(
    hidden_sizes: list[int], make_model: MakeModel, learnable: Learnable
) -> None:
    features, _, rows = learnable
    batch = gather(features, rows, np.arange(5), np.ones(len(features), np.float32))
    model: Any = make_model("cnn", hidden_sizes=hidden_sizes, skip_connection=True)
    without: Any = make_model("cnn", hidden_sizes=hidden_sizes, skip_connection=False)
    missing = without.load_state_dict(model.state_dict(), strict=False)
    # The filters do not see bigrams.
    assert set(missing.unexpected_keys) == {"wide.weight", "wide.bias", "bigrams.weight"}
    assert not missing.missing_keys
    title = given_to(model.wide, model, batch)
    with torch.inference_mode():
        torch.testing.assert_close(
            model(batch) - without(batch), model.wide(title), atol=1e-4, rtol=1e-4
        )


@both
def test_dropout_acts_in_training_and_not_in_evaluation(
    kind: str, make_model: MakeModel, learnable: Learnable
) -> None:
    features, _, rows = learnable
    model = make_model(kind, dropout=0.5)
    first, second = (logits_of(model, features, rows, [0, 1, 2]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    model.train()
    first, second = (logits_of(model, features, rows, [0, 1, 2]) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_embedding_starts_at_the_scale_asked_for(scale: float, embedding: Embedding) -> None:
    rows, size = embedding.table.shape
    layer = TokenVectors(ModelShape(rows, size, 0, 2), "sqrt", "idf")
    layer.start_from(embedding, scale, True)
    table = layer.table.weight.detach().numpy()
    words = len(embedding.subwords.vocabulary)
    assert np.sqrt(np.square(table[:words]).mean()) == pytest.approx(scale, rel=1e-5)
    ratio = table / embedding.table
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_without_a_scale_the_embedding_starts_as_it_is_and_shares_no_memory(
    embedding: Embedding,
) -> None:
    before = embedding.table.copy()
    rows, size = before.shape
    layer = TokenVectors(ModelShape(rows, size, 0, 2), "sqrt", "idf")
    layer.start_from(embedding, None, False)
    np.testing.assert_array_equal(layer.table.weight.detach().numpy(), before)
    assert not layer.table.weight.requires_grad
    with torch.no_grad():
        layer.table.weight.zero_()
    np.testing.assert_array_equal(embedding.table, before)


@both
@pytest.mark.parametrize("scale", [None, 0.5])
def test_a_saved_model_loads_to_the_same_logits_from_the_same_bytes(
    kind: str,
    scale: float | None,
    make_model: MakeModel,
    make_params: Callable[..., Params],
    embedding: Embedding,
    labels: list[str],
    hyperparameters: MakeHyperparameters,
    learnable: Learnable,
    tmp_path: Path,
) -> None:
    params = make_params()
    features, _, rows = learnable
    model = make_model(kind, embedding_scale=scale)
    shape = ModelShape(len(embedding.table), embedding.table.shape[1], 64, CLASSES)
    folders = tmp_path / "deep" / "once", tmp_path / "twice"
    for folder in folders:
        save_model(
            folder,
            kind,
            model,
            shape,
            hyperparameters(kind, embedding_scale=scale),
            labels,
            embedding.subwords,
            params.tokens,
            params.featurize,
            ORIGIN,
        )
    loaded: Any = load_model(folders[0], KINDS[kind], PARAMS[kind])
    assert not loaded.training
    np.testing.assert_array_equal(
        logits_of(model, features, rows, list(range(9))),
        logits_of(loaded, features, rows, list(range(9))),
    )
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == ["model.json", "model.safetensors", "subwords.json", "vocabulary.json"]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    description = json.loads((folders[0] / "model.json").read_text(encoding="utf-8"))
    assert description["labels"] == labels
    assert description["featurize"] == params.featurize.model_dump()
    assert description["tokens"] == params.tokens.model_dump()
    assert Subwords.load(folders[0]) == embedding.subwords


def tables_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, RowTable)
    }


@pytest.fixture
def save(
    make_params: Callable[..., Params],
    subwords: Subwords,
    labels: list[str],
    hyperparameters: MakeHyperparameters,
    tmp_path: Path,
) -> Save:
    """Save a model in a precision, and load it again."""
    params = make_params()

    def make(model: Classifier, kind: str, precision: str) -> Classifier:
        rows, size = model.token_vectors.table.weight.shape
        tables = tables_of(model)
        buckets = len(tables["bigrams"]) if "bigrams" in tables else 64
        folder = tmp_path / precision
        save_model(
            folder,
            kind,
            model,
            ModelShape(rows, size, buckets, CLASSES),
            hyperparameters(kind, table_precision=precision),
            labels,
            replace(subwords, buckets=rows - len(subwords.vocabulary)),
            params.tokens,
            params.featurize,
            ORIGIN,
        )
        loaded: Classifier = load_model(folder, KINDS[kind], PARAMS[kind])
        return loaded

    return make


def half_a_step(table: torch.Tensor, precision: str) -> torch.Tensor:
    """The most that rounding may move each value of a table."""
    if precision == "int8":
        return table.abs().amax(dim=1, keepdim=True).expand_as(table) / 127 / 2
    # 11 bits of mantissa, and steps of 2 ** -24 next to zero.
    return (table.abs() * 2**-11).clamp(min=2**-25)


precisions = pytest.mark.parametrize("precision", ["float32", "float16", "int8"])


@both
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("size", [1e-4, 0.05, 100.0])
def test_a_loaded_table_is_at_most_half_a_rounding_step_away(
    kind: str, precision: str, size: float, make_model: MakeModel, save: Save
) -> None:
    model = make_model(kind)
    before = tables_of(model)
    assert len(before) == 2
    # Rows of very different sizes.
    for table in before.values():
        table *= size * torch.logspace(-2, 0, len(table)).unsqueeze(1)
    after = tables_of(save(model, kind, precision))
    assert after.keys() == before.keys()
    for name, table in before.items():
        assert after[name].dtype == torch.float32
        moved = (after[name] - table).abs()
        assert bool((moved <= half_a_step(table, precision) * 1.0001).all())
        assert bool(moved.any())


@both
@precisions
def test_only_tables_are_rounded(
    kind: str, precision: str, make_model: MakeModel, save: Save
) -> None:
    model = make_model(kind)
    loaded = save(model, kind, precision).state_dict()
    tables = {f"{name}.weight" for name in tables_of(model)}
    assert loaded.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        same = torch.equal(loaded[name], value)
        assert same == (name not in tables or precision == "float32"), name


@both
@precisions
def test_saving_a_model_leaves_it_as_it_is(
    kind: str, precision: str, make_model: MakeModel, save: Save
) -> None:
    model = make_model(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save(model, kind, precision)
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


@both
@pytest.mark.parametrize(
    ("precision", "share"), [("float32", 0), ("float16", 2e-3), ("int8", 0.03)]
)
def test_rounded_tables_give_nearly_the_same_logits(
    kind: str,
    precision: str,
    share: float,
    make_model: MakeModel,
    save: Save,
    learnable: Learnable,
) -> None:
    features, _, rows = learnable
    model = make_model(kind)
    titles = list(range(len(features)))
    exact = logits_of(model, features, rows, titles)
    rounded = logits_of(save(model, kind, precision), features, rows, titles)
    moved = np.abs(rounded - exact).max()
    assert moved <= share * exact.std()
    assert (moved > 0) == (share > 0)


@both
@precisions
def test_rows_of_zeros_and_rows_of_one_extreme_value_survive(
    kind: str, precision: str, make_model: MakeModel, save: Save
) -> None:
    model = make_model(kind)
    for table in tables_of(model).values():
        table[:4] = torch.tensor([0.0, 30_000.0, -30_000.0, -(2.0**-20)]).unsqueeze(1)
    for name, table in tables_of(save(model, kind, precision)).items():
        expected = tables_of(model)[name][:4]
        torch.testing.assert_close(table[:4], expected, rtol=1e-6, atol=0)
        assert not table[0].any()


@pytest.mark.parametrize("value", [1e-44, 1e-38, 1e30, 3e38])
def test_an_int8_row_keeps_values_at_the_ends_of_float32(
    value: float, make_model: MakeModel, save: Save
) -> None:
    model = make_model("mlp")
    tables_of(model)["bigrams"][:2] = torch.tensor([value, -value]).unsqueeze(1)
    loaded = tables_of(save(model, "mlp", "int8"))["bigrams"]
    assert bool(torch.isfinite(loaded).all())
    torch.testing.assert_close(loaded[:2], tables_of(model)["bigrams"][:2], rtol=1e-5, atol=1e-40)


@both
def test_a_model_of_tables_is_smaller_the_coarser_they_are(
    kind: str, hyperparameters: MakeHyperparameters, save: Save, tmp_path: Path
) -> None:
    model: Classifier = KINDS[kind](ModelShape(4000, 200, 2000, CLASSES), hyperparameters(kind))
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        save(model, kind, precision)
        sizes[precision] = (tmp_path / precision / "model.safetensors").stat().st_size
    assert sizes["float32"] / sizes["float16"] == pytest.approx(2, rel=0.05)
    assert sizes["float32"] / sizes["int8"] == pytest.approx(4, rel=0.07)
    stored = load_file(tmp_path / "int8" / "model.safetensors")
    assert stored["token_vectors.table.weight"].dtype == torch.int8


@both
def test_the_calibration_travels_with_the_model(
    kind: str, make_model: MakeModel, save: Save
) -> None:
    model = make_model(kind)
    assert model.calibration == Calibration()
    model.calibration = Calibration(0.5, 1.7, 0.25)
    assert save(model, kind, "int8").calibration == model.calibration
