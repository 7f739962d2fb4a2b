"""Collect metrics of the service for Prometheus, such as request counts and durations."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_TITLES = (1, 2, 4, 8, 16, 32, 64, 128)
# Most answers are near 1, where a small change matters.
_CONFIDENCES = (*(step / 10 for step in range(1, 10)), 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0)
_OUTCOMES = ("answered", "below_threshold", "foreign", "error")


class ServiceMetrics:
    """Counters and histograms since the service started, and its memory use and CPU time."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter, histogram = (
            partial(Counter, registry=registry),
            partial(Histogram, registry=registry),
        )
        self.requests = counter("rubro_requests", "Answered requests.", ("path", "status"))
        self.seconds = histogram(
            "rubro_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
        )
        self.batch_titles = histogram(
            "rubro_batch_titles", "Number of titles in each batch.", buckets=_TITLES
        )
        self.answers = counter(
            "rubro_answers",
            "Titles by outcome: answered, below_threshold (category is null because of a low confidence), "
            "foreign (the training titles lack most of its words) or error (not a title).",
            ("outcome",),
        )
        for outcome in _OUTCOMES:
            self.answers.labels(outcome)  # so that it is 0 instead of missing
        self.confidences = histogram(
            "rubro_confidence",
            "Confidence of the most probable category of each title.",
            buckets=_CONFIDENCES,
        )
        self.reloads = counter("rubro_model_reloads", "Changes of the model folder.", ("outcome",))
        self.model = Gauge(
            "rubro_model_info",
            "The model in use, and the version of rubro.",
            ("name", "hash", "objective", "commit", "version"),
            registry=registry,
        )
        self.categories = Gauge(
            "rubro_model_categories", "Categories of the model in use.", registry=registry
        )
        self.loaded = Gauge(
            "rubro_model_loaded_timestamp_seconds",
            "Time at which the model in use was loaded.",
            registry=registry,
        )
        self.corrections = counter(
            "rubro_corrections", "Corrections that users added or removed.", ("action",)
        )

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
