"""Clients that write and read all the time, and remember what was acknowledged."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.hosts.cluster import client

BUCKET = "under-load"
_PAUSE_S = 0.02
"""Between two turns of a client: what is tested has to have the cores, too."""


class Load:
    """One thread an endpoint given (the same one may be given several times), from `with` to its end.

    `failures`: what a client saw that was no answer to its request.
    """

    def __init__(self, endpoints: Sequence[str], config: Config) -> None:
        self.failures: list[str] = []
        self.acknowledged: dict[str, bytes] = {}
        self.done = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number, endpoint, config), name=f"client {number}")
            for number, endpoint in enumerate(endpoints)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, endpoint: str, config: Config) -> None:
        chance = random.Random(number)
        s3 = client(endpoint, config)
        turn = 0
        while not self._stop.is_set():
            key = f"{number}/{turn % 40}"
            body = chance.randbytes(chance.choice((10, 5_000, 300_000)))
            try:
                s3.put_object(Bucket=BUCKET, Key=key, Body=body)
                self.acknowledged[key] = body
                if s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() != body:
                    self.failures.append(f"{key} was not what was written")
                self.done += 1
            except (BotoCoreError, ClientError) as error:
                self.acknowledged.pop(key, None)  # whether it was written is not known
                self.failures.append(f"{key} over {endpoint}: {error!r}")
            turn += 1
            self._stop.wait(_PAUSE_S)
        s3.close()
