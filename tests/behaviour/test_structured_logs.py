"""Formatters of structured logs get every fact of an outcome, and no key."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import short_digest
from django_idempotency.signals import FACTS
from tests.conftest import Caller
from tests.support.adapters import few_adapters

pytestmark = pytest.mark.once


def with_structlog() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )


@pytest.fixture(params=[JsonFormatter, with_structlog])
def lines(request: Any) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What a project's handler writes, parsed."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    logger = logging.getLogger("django_idempotency")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


@few_adapters
def test_every_fact_is_a_field(
    adapter: str, caller: Caller, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """I10: the key is not among them."""
    caller.post(adapter, {"item": "a-secret"}, key="whole-key")
    caller.post(adapter, {"item": "disk"}, key="whole-key")
    first, second = (each for each in lines() if "outcome" in each)
    record = IdempotencyRecord.objects.get()
    assert first.keys() >= set(FACTS)
    assert (first["outcome"], first["status"], first["attempt"]) == ("executed", 201, 1)
    assert (second["outcome"], second["reason"]) == ("mismatch", "idempotency_key_reused")
    for line in (first, second):
        assert line["key_digest"] == short_digest("whole-key")
        assert line["scope_digest"] == record.scope[:12]
        assert 0 < line["guard_duration"] <= line["duration"]
    assert "whole-key" not in json.dumps(lines())
    assert "a-secret" not in json.dumps(lines())
