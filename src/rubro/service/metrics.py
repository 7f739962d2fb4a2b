"""Counters of the service for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from rubro.service.served import Served

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_TITLES = (1, 2, 4, 8, 16, 32, 64, 128)
_CONFIDENCES = tuple(step / 10 for step in range(1, 11))


class Metrics:
    """What the service has done since it started, and the memory and time it took."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "rubro_requests", "Answered requests.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "rubro_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "rubro_batch_titles",
            "Titles that were computed together.",
            buckets=_TITLES,
            registry=self._registry,
        )
        self._errors = Counter(
            "rubro_title_errors", "Titles without an answer.", registry=self._registry
        )
        self._confidences = Histogram(
            "rubro_confidence",
            "Confidence of the most probable category of each title.",
            buckets=_CONFIDENCES,
            registry=self._registry,
        )
        self._reloads = Counter(
            "rubro_model_reloads",
            "Changes of the model folder.",
            ("outcome",),
            registry=self._registry,
        )
        self._model = Gauge(
            "rubro_model_info", "The model in use.", ("name", "hash"), registry=self._registry
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            path: Path of the route; not the client's, or hostile ones would fill the memory.
            status: HTTP status.
            seconds: Duration in seconds.
        """
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, titles: int) -> None:
        """Count a batch of titles."""
        self._batches.observe(titles)

    def title(self, confidence: float | None) -> None:
        """Count a title.

        Args:
            confidence: Confidence of its category; None = it has no answer.
        """
        if confidence is None:
            self._errors.inc()
        else:
            self._confidences.observe(confidence)

    def model(self, served: Served) -> None:
        """Name the model in use."""
        self._model.clear()
        self._model.labels(served.classifier.name, served.hash).set(1)

    def reload(self, is_good: bool) -> None:
        """Count a change of the model folder."""
        self._reloads.labels("replaced" if is_good else "refused").inc()

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)
