"""What an exporter exports: the counters of all processes, and the gauges once."""

import os
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ..figures import MEANINGS, figures
from .counting import begin_at_zero

PREFIX = "django_idempotency_"


class Gauges(Collector):
    """Asks when it is scraped, so no process has a value that would be added to those of others.

    A scrape never fails: a figure that cannot be read is left out, and ``collector_up`` is 0.
    """

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for figure in figures.current():
            if figure.name not in families:
                name, labels = PREFIX + figure.name, list(figure.labels)
                families[figure.name] = GaugeMetricFamily(
                    name, MEANINGS[figure.name], labels=labels
                )
            families[figure.name].add_metric(list(figure.labels.values()), figure.value)
        yield from families.values()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Say the names without asking the database."""
        for name, meaning in MEANINGS.items():
            yield GaugeMetricFamily(PREFIX + name, meaning)


gauges = Gauges()
"""For exporters that put a registry together themselves."""


def is_multiprocess() -> bool:
    """Whether prometheus-client keeps values in files that all processes share."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


if not is_multiprocess():  # there it would be one process's registry of several
    REGISTRY.register(gauges)


def registry() -> CollectorRegistry:
    """Return the registry that an exporter exports.

    In multiprocess mode it is a new one: with the sums of all processes, and the gauges of the
    process that is asked. Otherwise it is prometheus-client's default registry.
    """
    if not is_multiprocess():
        return REGISTRY
    begin_at_zero()
    whole = CollectorRegistry()
    MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
    whole.register(gauges)
    return whole
