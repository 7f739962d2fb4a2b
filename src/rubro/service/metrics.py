"""Metrics of the service for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_TITLES = (1, 2, 4, 8, 16, 32, 64, 128)
_CONFIDENCES = tuple(step / 10 for step in range(1, 11))


class ServiceMetrics:
    """Counters and histograms since the start of the service, with its memory and CPU time."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "rubro_requests", "Answered requests.", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "rubro_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_titles = Histogram(
            "rubro_batch_titles",
            "Number of titles in each batch.",
            buckets=_TITLES,
            registry=registry,
        )
        self.title_errors = Counter(
            "rubro_title_errors", "Titles without an answer.", registry=registry
        )
        self.confidences = Histogram(
            "rubro_confidence",
            "Confidence of the most probable category of each title.",
            buckets=_CONFIDENCES,
            registry=registry,
        )
        self.reloads = Counter(
            "rubro_model_reloads", "Changes of the model folder.", ("outcome",), registry=registry
        )
        self.model = Gauge(
            "rubro_model_info", "The model in use.", ("name", "hash"), registry=registry
        )

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
