"""`make chaos`: random faults on a real store beside 16 real clients, and a judgement of what they saw.

    python -m tests.chaos.run --seconds 600 --seed 7

One store of this machine (`trivet up`, three nodes, two fronts) is hit by one fault after the other: processes
killed and frozen, connections cut and silenced, a disk that fills up, bits that rot. Meanwhile clients put, get
and delete a few shared keys through boto3, without retries. At the end the faults stop, the store must become
fully redundant by itself, and every key is read again, once more without each of the nodes. Lost is what was
acknowledged and then not there; a history checker decides, key by key.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import ClientError

from catalog import nodes, work
from catalog.model import Event
from catalog.transaction import Transaction
from tests.chaos import faults
from tests.chaos.clients import BUCKET, Client, WrongBytes
from tests.chaos.faults import NODES, Cable, SmallDisk, node_name
from tests.chaos.history import GET, PUT, History
from tests.system.conftest import Store
from tests.system.redundancy import below_full_redundancy, with_catalog

SMALL_DISK_BYTES: Final = 2 << 30
RESERVE_BYTES: Final = 64 << 20
SEGMENT_BYTES: Final = 32 << 20
HEALED_S_MAX: Final = 180.0
_CLIENT_CONFIG: Final = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60)


@dataclass
class Outcome:
    """What a run found. `failed_requests` counts by the fault that was in force."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failed_requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    healed_s: float = -1.0
    mttr_s: list[float] = field(default_factory=list)
    slowest_s: dict[str, float] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """For a person."""
        done = ", ".join(f"{count} {kind}" for kind, count in sorted(self.operations.items()))
        yield f"operations   {sum(self.operations.values())} ({done})"
        hits = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        yield f"faults       {sum(self.faults.values())} ({hits})"
        errors = ", ".join(f"{count} during {kind}" for kind, count in sorted(self.failed_requests.items()))
        yield f"errors seen  {sum(self.failed_requests.values())}" + (f" ({errors})" if errors else "")
        for error, count in self.errors.most_common(5):
            yield f"             {count} x {error}"
        for kind, slowest in sorted(self.slowest_s.items()):
            yield f"slowest      {kind} {slowest:.2f} s"
        yield f"healed       {self.healed_s:.1f} s after the last fault"
        if self.mttr_s:
            mean = sum(self.mttr_s) / len(self.mttr_s)
            yield f"MTTR         mean {mean:.1f} s, longest {max(self.mttr_s):.1f} s, of {len(self.mttr_s)} repairs"
        yield f"losses       {len(self.losses)}"
        yield from (f"             {line}" for line in self.losses)


class Chaos:
    """One run. `say` gets a line for each fault as it begins."""

    def __init__(
        self, folder: Path, *, seed: int, clients: int, keys: int, disk: bool, say: Callable[[str], None]
    ) -> None:
        self.outcome = Outcome()
        self._seed = seed
        self._random = Random(seed)
        self._say = say
        self._history = History()
        self._in_force = "nothing"
        self._stop = threading.Event()
        self._disk = SmallDisk(folder / "small", SMALL_DISK_BYTES) if disk else None
        directories = [folder / node_name(number) for number in range(1, NODES)]
        directories.append((self._disk.folder if self._disk else folder) / node_name(NODES))
        self._directories = dict(enumerate(directories, 1))
        options = [word for directory in directories for word in ("--node-dir", str(directory))]
        self.store = Store(
            folder,
            ("--fronts", "2", *options),
            {
                "TRIVET_NODE_RESERVE_BYTES": str(RESERVE_BYTES),
                "TRIVET_GRACE_S": "5",
                "TRIVET_SEGMENT_BYTES": str(SEGMENT_BYTES),
            },
        )
        self._cables: dict[int, Cable] = {}
        self._rotten = self._random.randint(1, NODES)  # one node only: the budget is one bad shard a stripe
        self._clients = [
            Client(
                number,
                self._make_client,
                self._history,
                self._stop,
                keys=keys,
                seed=seed,
                on_error=self._note_error,
            )
            for number in range(clients)
        ]
        self._keys = keys

    def __enter__(self) -> Chaos:
        try:
            self.store.start()
            self.store.client().create_bucket(Bucket=BUCKET)
            self._lay_cables()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        for client in self._clients:
            if client.ident is not None:
                client.join()
        self.store.stop()
        for cable in self._cables.values():
            cable.close()
        if self._disk is not None:
            self._disk.close()

    def run(self, seconds: float) -> Outcome:
        """Faults for so long, then the judgement."""
        for client in self._clients:
            client.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(client.wrong for client in self._clients):
            self._strike()
        self._judge()
        return self.outcome

    # -- faults ----------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        """One fault, for a while, and a pause after it."""
        kinds = [
            *(self._kill_node, self._freeze_node, self._cut_cable, self._silence_cable) * 2,
            *(self._flap_node, self._rot, self._kill_front, self._freeze_front),
            *(self._kill_steward, self._freeze_steward, self._fill_disk),
        ]
        kind = self._random.choice(kinds)
        number = self._random.randint(1, NODES)
        name = kind.__name__.strip("_").replace("_", " ")
        duration_s = self._random.choice((0.3, 1.0, 2.0, 4.0))
        self._in_force = name
        self._say(f"{name} ({node_name(number)}, {duration_s} s)")
        with kind(number):
            self._wait(duration_s)
        self.outcome.faults[name] += 1
        # What follows a fault counts as its doing; a disk that was full is looked at once a second by its node.
        self._wait(self._random.uniform(0.2, 1.5) + (2.5 if kind == self._fill_disk else 0.0))
        self._in_force = "nothing"
        self._wait(self._random.uniform(0.0, 0.5))

    def _kill_node(self, number: int) -> AbstractContextManager[None]:
        faults.kill(self.store, node_name(number))
        return nullcontext()

    def _flap_node(self, number: int) -> AbstractContextManager[None]:
        for _ in range(3):
            faults.kill(self.store, node_name(number))
        return nullcontext()

    def _freeze_node(self, number: int) -> AbstractContextManager[None]:
        return faults.frozen(self.store, node_name(number))

    def _cut_cable(self, number: int) -> AbstractContextManager[None]:
        return self._cables[number].cut()

    def _silence_cable(self, number: int) -> AbstractContextManager[None]:
        return self._cables[number].silent()

    def _rot(self, _number: int) -> AbstractContextManager[None]:
        faults.flip_bits(self._directories[self._rotten], self._random, 3)
        return nullcontext()

    def _kill_front(self, number: int) -> AbstractContextManager[None]:
        faults.kill(self.store, f"front-{number % 2 + 1}")
        return nullcontext()

    def _freeze_front(self, number: int) -> AbstractContextManager[None]:
        return faults.frozen(self.store, f"front-{number % 2 + 1}")

    def _kill_steward(self, _number: int) -> AbstractContextManager[None]:
        faults.kill(self.store, "steward")
        return nullcontext()

    def _freeze_steward(self, _number: int) -> AbstractContextManager[None]:
        return faults.frozen(self.store, "steward")

    def _fill_disk(self, _number: int) -> AbstractContextManager[None]:
        return self._disk.full() if self._disk is not None else nullcontext()

    def _wait(self, seconds: float) -> None:
        """The faults' own pace; it ends early when a client has seen what must not be."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(client.wrong for client in self._clients):
            self._stop.wait(0.05)

    # -- judgement -------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        calm = time.monotonic()
        self._stop.set()
        for client in self._clients:
            client.join()
        outcome = self.outcome
        for client in self._clients:
            outcome.operations += client.counts
            if client.wrong is not None:
                outcome.losses.append(f"client {client.number}: {client.wrong!r}")
        for kind in (GET, PUT):
            times = [latency for client in self._clients for _, latency in client.latencies_s[kind]]
            outcome.slowest_s[kind] = max(times, default=0.0)
        self._await_redundancy(calm)
        self._read_all("at the end")
        for number in range(1, NODES + 1):
            with faults.frozen(self.store, node_name(number)):
                self._read_all(f"without {node_name(number)}")
        outcome.losses += self._history.violations()
        outcome.mttr_s = _repair_times(self.events())

    def _read_all(self, when: str) -> None:
        """Each key once, as part of the history; here an error is a loss."""
        failures: list[str] = []
        reader = Client(
            -1,
            self._make_client,
            self._history,
            threading.Event(),
            keys=self._keys,
            seed=self._seed,
            on_error=lambda kind, error: failures.append(f"{kind} {when}: {error}"),
        )
        client = self._make_client()
        try:
            for number in range(self._keys):
                reader.get(client, f"key-{number}")
        except WrongBytes as error:
            failures.append(f"{when}: {error}")
        finally:
            client.close()
        self.outcome.losses += failures

    def _await_redundancy(self, since: float) -> None:
        while time.monotonic() - since < HEALED_S_MAX:
            waiting = below_full_redundancy(self.store)
            if not waiting:
                self.outcome.healed_s = time.monotonic() - since
                return
            time.sleep(0.2)
        self.outcome.losses.append(f"not fully redundant after {HEALED_S_MAX:.0f} s: {waiting}")

    def events(self) -> list[Event]:
        """What the steward noted, oldest first."""
        return with_catalog(self.store, lambda catalog: catalog.read(work.list_events))

    # -- the store -------------------------------------------------------------------------------------------

    def _make_client(self) -> Any:
        return self.store.unmanaged_client(_CLIENT_CONFIG)

    def _note_error(self, kind: str, error: Exception) -> None:
        self.outcome.failed_requests[self._in_force] += 1
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        self.outcome.errors[f"{kind} {code} during {self._in_force}"] += 1

    def _lay_cables(self) -> None:
        """Move each node's address to a socket of ours, which passes everything on."""
        sockets = self.store.data / "run"
        for number in range(1, NODES + 1):
            path = sockets / f"cable-{number}"
            self._cables[number] = Cable(path, str(sockets / f"{node_name(number)}.sock"))

        def move(tx: Transaction) -> None:
            for row in nodes.list_nodes(tx):
                nodes.move(tx, row.number, host=str(self._cables[row.number].path), port=0)

        with_catalog(self.store, lambda catalog: catalog.write(move))


def _repair_times(events: Sequence[Event]) -> list[float]:
    """Seconds from the first trouble with a node to full redundancy, for each time that it was restored."""
    times = []
    began: int | None = None
    for event in events:
        if event.kind in ("node-suspect", "node-down") and began is None:
            began = event.at_ms
        elif event.kind == "redundancy-restored" and began is not None:
            times.append((event.at_ms - began) / 1000)
            began = None
    return times


@contextmanager
def chaos(seed: int, *, clients: int, keys: int, say: Callable[[str], None]) -> Iterator[Chaos]:
    """A run in a folder of its own that is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="trivet-chaos-", ignore_cleanup_errors=True) as folder,
        Chaos(Path(folder), seed=seed, clients=clients, keys=keys, disk=SmallDisk.possible(), say=say) as run,
    ):
        yield run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--keys", type=int, default=48)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--log", type=Path, help="keep the store's log in this file")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.clients} clients, {options.seconds:.0f} s", flush=True)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    with chaos(options.seed, clients=options.clients, keys=options.keys, say=say) as run:
        outcome = run.run(options.seconds)
        log = run.store.log()
    print()
    for line in outcome.lines():
        print(line)
    if options.log is not None:
        options.log.write_text(log)
    if options.json is not None:
        options.json.write_text(json.dumps(vars(outcome), indent=1))
    return 1 if outcome.losses else 0


if __name__ == "__main__":
    sys.exit(main())
