"""Large things without large machines: blobs that are rows only. The front is real, its catalog too; nodes are none."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from catalog import buckets
from catalog.embedded import EmbeddedCatalog
from catalog.statement import Reader
from s3front.app import create_app
from tests import service_model
from tests.model.without_network import Loop, ask
from tests.s3front.admin.small_front import ROOT_KEY, small_front

T = TypeVar("T")


class Front:
    """A front in this process, asked by boto3."""

    def __init__(self, folder: Path) -> None:
        self._loop = Loop()
        self._stack = AsyncExitStack()
        services = self.run(self._stack.enter_async_context(small_front(folder)))
        assert isinstance(services.front.catalog, EmbeddedCatalog)
        self.catalog = services.front.catalog
        self._app = create_app(services)
        self.s3: Any = boto3.session.Session().client(
            "s3",
            endpoint_url="http://127.0.0.1:9000",
            region_name="us-east-1",
            aws_access_key_id=ROOT_KEY[0],
            aws_secret_access_key=ROOT_KEY[1],
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.s3.meta.events.register("before-send.s3", self._send)
        service_model.watch(self.s3)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(coroutine)

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        return self.run(ask(self._app, request))

    def bucket(self, name: str) -> int:
        """A new bucket; the catalog's name for it."""
        self.s3.create_bucket(Bucket=name)
        found = self.run(buckets.get(self.catalog, name))
        assert found is not None
        return found.id

    def traced(self, function: Callable[[], T]) -> tuple[T, list[str]]:
        """What a call of boto3's returns, and the statements that were run in transactions meanwhile."""
        texts: list[str] = []
        self.catalog._writer_connection.set_trace_callback(texts.append)
        try:
            return function(), texts
        finally:
            self.catalog._writer_connection.set_trace_callback(None)

    def read(self, function: Callable[[Reader], T]) -> tuple[T, int]:
        """The same for a scan; the cost is in steps of the database's machine, which it counts itself."""
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        def counted(reader: Reader) -> T:
            connection = reader._cursor.connection  # type: ignore[attr-defined]
            function(reader)  # a connection reads the schema with its first statement
            connection.set_progress_handler(step, 1)
            try:
                return function(reader)
            finally:
                connection.set_progress_handler(None, 1)

        return self.run(self.catalog.read(counted)), steps

    def close(self) -> None:
        self.s3.close()
        self.run(self._stack.aclose())
        self._loop.close()


@pytest.fixture(scope="package")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with closing(Front(tmp_path_factory.mktemp("large"))) as made:
        yield made
