"""A linear SVM as a layer: sparse weights of words, word bigrams and character n-grams."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.files import damaged, read_tensors
from rubro.models.batches import Batch

_STORED = {
    torch.float16: "F16",
    torch.float32: "F32",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
}
_FILE = "svm.safetensors"
Layout = dict[str, tuple[str, tuple[int | None, ...]]]


def layout_of(module: nn.Module) -> Layout:
    """The safetensors dtype and the shape of each tensor of a module's state, for read_tensors."""
    return {
        name: (_STORED[value.dtype], tuple(value.shape))
        for name, value in module.state_dict().items()
    }


class Svm(nn.Module):
    """The scores of a linear classifier over TF-IDF, of which most weights are zero.

    Its inputs are the rows of the embedding (words, then n-gram buckets) and then the bigram
    buckets, each times its IDF. A title's words and bigrams together are divided by the root of
    the sum of their squared IDFs, and so are its n-grams: without repeated ones, to length 1.
    rubro.training.svm.fit_svm fits it; training a classifier does not change it.

    Args:
        rows: of the embedding table.
        bigram_buckets: of the bigram table.
        weights: number of those that are not zero.
        classes: categories.
    """

    words: Tensor
    idf: Tensor
    starts: Tensor
    categories: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, rows: int, bigram_buckets: int, weights: int, classes: int) -> None:
        super().__init__()
        self._rows = rows
        inputs = rows + bigram_buckets
        small = torch.int16 if classes <= 2**15 else torch.int32
        self.register_buffer("words", torch.zeros((), dtype=torch.int64))
        self.register_buffer("idf", torch.zeros(inputs))
        self.register_buffer("starts", torch.zeros(inputs + 1, dtype=torch.int32))
        self.register_buffer("categories", torch.zeros(weights, dtype=small))
        self.register_buffer("weights", torch.zeros(weights, dtype=torch.float16))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, batch: Batch) -> Tensor:
        """Scores, float32 (B, classes); that of the right category ought to lead by 1 or more."""
        rows = self._weighted(batch.rows)
        is_word = batch.rows[batch.row_index] < self.words
        scores = self.bias.expand(len(batch.lengths), -1)
        for chosen in (is_word, ~is_word):
            chosen_before = F.pad(chosen.cumsum(0), (1, 0))
            tokens = F.embedding_bag(
                batch.row_index[chosen], rows, chosen_before[batch.row_offsets], mode="sum"
            )
            tokens = torch.cat([tokens, tokens.new_zeros(1, tokens.shape[1])])
            titles = F.embedding(batch.tokens, tokens).sum(1)
            if chosen is is_word and len(batch.bigrams):
                titles = titles + F.embedding_bag(
                    batch.bigram_index,
                    self._weighted(self._rows + batch.bigrams),
                    batch.bigram_offsets,
                    mode="sum",
                )
            square = titles[:, -1:].clamp(min=torch.finfo(titles.dtype).tiny)
            scores = scores + titles[:, :-1] / square.sqrt()
        return scores

    def _weighted(self, inputs: Tensor) -> Tensor:
        """Dense rows: IDF * weights and, last, the square of the IDF; (n, classes + 1)."""
        first = self.starts[inputs].long()
        counts = self.starts[inputs + 1] - first
        before = counts.cumsum(0) - counts
        places = torch.arange(int(counts.sum()), device=inputs.device)
        places = places + (first - before).repeat_interleave(counts)
        of = torch.arange(len(inputs), device=inputs.device).repeat_interleave(counts)
        idf = self.idf[inputs]
        rows = idf.new_zeros(len(inputs), len(self.bias) + 1)
        rows[of, self.categories[places].long()] = self.weights[places].to(idf.dtype)
        rows[:, -1] = idf
        return rows * idf.unsqueeze(1)

    def problem(self) -> str | None:
        """What is wrong with values that came from a file, if anything is."""
        starts, categories = self.starts, self.categories
        if starts[0] != 0 or starts[-1] != len(categories) or (starts[1:] < starts[:-1]).any():
            return "starts leads out of its weights"
        if len(categories) and not 0 <= categories.min() <= categories.max() < len(self.bias):
            return "categories names a category that there is not"
        return None

    def save(self, folder: Path) -> None:
        """Write svm.safetensors; the same bytes each time."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / _FILE)

    @classmethod
    def load(cls, folder: Path, rows: int, bigram_buckets: int, classes: int) -> Svm:
        """Read what save wrote; the sizes must be those that it was made with.

        Raises:
            DataError: the file is missing or not as save wrote it.
        """
        path = folder / _FILE
        layout = layout_of(cls(rows, bigram_buckets, 0, classes))
        for name in ("categories", "weights"):
            layout[name] = layout[name][0], (None,)
        tensors = read_tensors(path, layout)
        if len(tensors["weights"]) != len(tensors["categories"]):
            raise damaged(path, "its tensors are not of the same number of weights")
        svm = cls(rows, bigram_buckets, len(tensors["weights"]), classes)
        svm.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        if problem := svm.problem():
            raise damaged(path, problem)
        return svm
