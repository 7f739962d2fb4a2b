"""Compute the exponentials and sums that training.loss needs for the cross-entropy."""

from __future__ import annotations

import numpy as np
from numba import njit

from rubro.kernels.pairwise_sum import pairwise_sum

# exp(x) = 2 ** n * exp(r), with |r| at most log(2) / 2. Source: Moshier 1989, Cephes, expf.
_LOG2_E = np.float32(1.44269504)
_LOG_2, _LOG_2_REST = np.float32(0.693359375), np.float32(-2.12194440e-4)
_COEFFICIENTS = tuple(
    np.float32(value)
    for value in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
_MINIMUM = np.float32(-87)  # exp of smaller values is not a normal float32


@njit(
    "(float32[:, ::1], float32[::1], float32[::1], float32[:, ::1], int64[::1], "
    "float32[:, ::1], int64, int64)",
    cache=True,
    nogil=True,
)
def softmax_sums(
    logits: np.ndarray,
    factors: np.ndarray,
    shares: np.ndarray,
    exponentials: np.ndarray,
    predictions: np.ndarray,
    sums: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Write the exponentials and sums that the cross-entropy of titles from start to end needs.

    Args:
        logits: Logits of each title, float32 (B, classes).
        factors: Factor of the exponential of each class, float32 (classes,).
        shares: Share of each class in the label smoothing, float32 (classes,).
        exponentials: exp(logit - maximum logit of the title) times the factor of the class,
            float32 (B, classes); written.
        predictions: Class of the maximum logit, int64 (B,); written.
        sums: Maximum logit, sum of the exponentials without and with factors, and sum of the logits
            times the shares, float32 (4, B); written.
        start: First title.
        end: Title after the last one.
    """
    classes = logits.shape[1]
    scratch, powers = np.empty(classes, dtype=np.float32), np.empty(classes, dtype=np.int32)
    as_floats = powers.view(np.float32)
    c0, c1, c2, c3, c4, c5 = _COEFFICIENTS
    for i in range(start, end):
        own, values = logits[i], exponentials[i]
        best = 0
        for j in range(1, classes):
            if own[j] > own[best]:
                best = j
        top = own[best]
        for j in range(classes):
            x = own[j] - top
            x = _MINIMUM if x < _MINIMUM else x  # noqa: FURB136 (keeps NaN, and is vectorised)
            power = np.int32(x * _LOG2_E - np.float32(0.5))
            n = np.float32(power)
            r = x - n * _LOG_2 - n * _LOG_2_REST
            terms = ((((c0 * r + c1) * r + c2) * r + c3) * r + c4) * r + c5
            values[j] = terms * (r * r) + r + np.float32(1)
            powers[j] = np.int32((power + 127) << 23)  # the bits of 2 ** power
        for j in range(classes):
            values[j] *= as_floats[j]
            scratch[j] = values[j]
        sums[1, i] = pairwise_sum(scratch)
        for j in range(classes):
            values[j] *= factors[j]
            scratch[j] = values[j]
        sums[2, i] = pairwise_sum(scratch)
        for j in range(classes):
            scratch[j] = own[j] * shares[j]
        sums[3, i] = pairwise_sum(scratch)
        sums[0, i] = top
        predictions[i] = best
