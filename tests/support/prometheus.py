"""A Prometheus server that scrapes what a test serves, and evaluates the alert rules."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = MONITORING / "alerts.yml"
DASHBOARD = MONITORING / "dashboard.json"

CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [{rules}]
scrape_configs:
  - job_name: example
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["{host}:{port}"]}}]
"""
Found = TypeVar("Found")


class Prometheus:
    """A running server.

    :param port: where its API listens, on loopback
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> list[Any]:
        """Return the series of an instant query, each with ``metric`` and ``value``.

        :raises AssertionError: if Prometheus does not understand it
        """
        found: list[Any] = self._ask("query", query=expression)["result"]
        return found

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the alerts that fire: their names and annotations."""
        return {
            each["labels"]["alertname"]: each["annotations"]
            for each in self._ask("alerts")["alerts"]
            if each["state"] == "firing"
        }

    def rules(self) -> list[Any]:
        """Return the rules with their health."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **parameters: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("GET", f"/api/v1/{what}?{urlencode(parameters)}")
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]


def eventually(find: Callable[[], Found], what: str) -> Found:
    """Return the first result that is true: Prometheus learns something at its next scrape."""
    deadline = time.monotonic() + 60
    while not (found := find()):
        assert time.monotonic() < deadline, f"{what}: not within a minute"
        time.sleep(0.05)
    return found


@contextmanager
def running_prometheus(folder: Path, target: tuple[str, int], token: str) -> Iterator[Prometheus]:
    """Run a server for as long as the block lasts.

    :param folder: for its configuration, its data and its log
    :param target: host and port of what it scrapes
    :param token: what it sends there
    """
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    host, port = target
    config.write_text(CONFIG.format(rules=RULES, token=token, host=host, port=port))
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(["prometheus", *options], stdout=output, stderr=output)
    try:

        def port_of() -> str:
            assert process.poll() is None, log.read_text()
            text = log.read_text()
            found = re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', text)
            return found[1] if found and "Server is ready" in text else ""

        yield Prometheus(int(eventually(port_of, "start of Prometheus")))
    finally:
        process.kill()
        process.wait()
