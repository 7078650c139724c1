"""``make bench``: starts a store of its own in a temporary directory, loads it, prints what it measured.

The floor (an empty Starlette application on the same server) is measured before and after, in the same run,
because absolute figures depend on the machine; rates of small requests are also given as a share of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.bench import extras
from conformance.bench.load import LoadFailed, LoadPlan, LoadResult, run_in_process
from conformance.bench.machine import sync_ms, this_machine
from conformance.bench.metrics_cost import metrics_cost_us
from conformance.bench.process_stats import read_cpu_s, read_stats
from conformance.bench.report import WITH_LOG, WITHOUT_LOG, Report, Row
from conformance.bench.target import Target, TargetFailed, running_floor, running_store

KIB = 1 << 10
MIB = 1 << 20
FLOOR_CLIENTS = (1, 8, 16)
LIST_KEYS = 10_000
LOG_SIZE = "4 KiB"
LOG_CLIENTS = 16
LOG_ROUNDS = 8
LIST_PAGE_KEYS = 1000
LIST_ROUNDS = 5
MULTIPART_PART_BYTES = 8 * MIB
MULTIPART_PARTS = 32
MULTIPART_THREADS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """One object size of the table, with the number of keys used and the client counts tried."""

    label: str
    object_bytes: int
    key_count: int
    clients: tuple[int, ...]


SIZES = (
    Size("4 KiB", 4 * KIB, 20_000, (1, 16)),
    Size("64 KiB", 64 * KIB, 2_000, (1, 16)),
    Size("1 MiB", MIB, 200, (1, 8, 16)),
    Size("256 MiB", 256 * MIB, 4, (1, 4)),
)


class Bench:
    def __init__(self, target: Target, seconds: float, report: Report) -> None:
        self._target = target
        self._seconds = seconds
        self._report = report
        self.floor_per_second: dict[int, float] = {}

    def measure_floor(self) -> None:
        """Twice or more: the mean is what shares are taken of."""
        with running_floor() as floor:
            for clients in FLOOR_CLIENTS:
                plan = LoadPlan(
                    floor.host, floor.port, "GET", "floor", 1000, 0, clients, min(self._seconds, 3.0)
                )
                result, cpu = self._watched(floor, plan)
                self._add("GET floor", Size("0", 0, 0, ()), plan, result, cpu)
                earlier = self.floor_per_second.get(clients)
                self.floor_per_second[clients] = (
                    result.per_second if earlier is None else (earlier + result.per_second) / 2
                )

    def measure_size(self, size: Size) -> None:
        bucket = f"bench-{size.object_bytes}"
        extras.make_bucket(self._target.endpoint, bucket)
        extras.check_contents(self._target.endpoint, bucket, os.urandom(size.object_bytes))
        self._fill(bucket, size.key_count, size.object_bytes)
        for method in ("PUT", "GET"):
            for clients in size.clients:
                plan = self._plan(method, bucket, size, clients, seconds=self._seconds)
                result, cpu = self._watched(self._target, plan)
                self._add(method, size, plan, result, cpu)

    def prepare_log(self, size: Size) -> None:
        """What `measure_log` overwrites."""
        extras.make_bucket(self._target.endpoint, _log_bucket(size))
        self._fill(_log_bucket(size), size.key_count, size.object_bytes)

    def measure_log(self, name: str, size: Size) -> None:
        """PUT of this size on a store that does nothing else."""
        plan = self._plan("PUT", _log_bucket(size), size, LOG_CLIENTS, seconds=self._seconds)
        result, cpu = self._watched(self._target, plan)
        self._add(name, size, plan, result, cpu)

    def measure_listing(self) -> None:
        bucket = "bench-list"
        extras.make_bucket(self._target.endpoint, bucket)
        self._fill(bucket, LIST_KEYS, 100)
        self._measure_work(
            "LIST keys",
            f"{LIST_PAGE_KEYS}/page",
            1,
            [lambda: extras.list_all(self._target.endpoint, bucket, LIST_PAGE_KEYS)] * (LIST_ROUNDS + 1),
            counts_bytes=False,
        )

    def measure_multipart(self) -> None:
        bucket = "bench-multipart"
        extras.make_bucket(self._target.endpoint, bucket)
        part = os.urandom(MULTIPART_PART_BYTES)

        def work() -> extras.Timing:
            return extras.multipart_put(
                self._target.endpoint, bucket, part=part, parts=MULTIPART_PARTS, threads=MULTIPART_THREADS
            )

        self._measure_work("multipart PUT", "256 MiB", MULTIPART_THREADS, [work] * 4, counts_bytes=True)

    def _measure_work(
        self,
        name: str,
        size: str,
        clients: int,
        rounds: list[Callable[[], extras.Timing]],
        *,
        counts_bytes: bool,
    ) -> None:
        """The first round warms up. What is counted is keys (then also `ops/s`) or whole objects."""
        rounds[0]()
        used = extras.measure_cpu(lambda: _cpu_of(self._target))
        timings = [work() for work in rounds[1:]]
        cpu = used()
        seconds = sum(timing.seconds for timing in timings)
        units = sum(timing.units for timing in timings)
        operations = len(timings) if counts_bytes else units
        steps = sorted(step for timing in timings for step in timing.steps_ms)
        self._report.rows.append(
            Row(
                name=name,
                size=size,
                clients=clients,
                per_second=operations / seconds,
                bytes_per_second=units / seconds if counts_bytes else 0.0,
                p50_ms=steps[len(steps) // 2],
                p99_ms=steps[int(len(steps) * 0.99)],
                floor_share=None,
                generator_share=None,
                cpu_us={process: cpu_s * 1e6 / operations for process, cpu_s in cpu.items()},
            )
        )
        _tell(self._report.rows[-1])

    def _fill(self, bucket: str, key_count: int, object_bytes: int) -> None:
        """Every key once, which warms the store up too."""
        clients = 16 if object_bytes <= MIB else 2
        size = Size("", object_bytes, key_count, ())
        run_in_process(self._plan("PUT", bucket, size, clients, seconds=3600.0, operations_max=key_count))

    def _plan(
        self, method: str, bucket: str, size: Size, clients: int, *, seconds: float, operations_max: int = 0
    ) -> LoadPlan:
        return LoadPlan(
            host=self._target.host,
            port=self._target.port,
            method=method,
            bucket=bucket,
            key_count=size.key_count,
            object_bytes=size.object_bytes,
            clients=clients,
            seconds=seconds,
            operations_max=operations_max,
            access_key=self._target.access_key,
            secret_key=self._target.secret_key,
        )

    def _watched(self, target: Target, plan: LoadPlan) -> tuple[LoadResult, dict[str, float]]:
        used = extras.measure_cpu(lambda: _cpu_of(target))
        result = run_in_process(plan)
        return result, used()

    def _add(self, name: str, size: Size, plan: LoadPlan, result: LoadResult, cpu: dict[str, float]) -> None:
        floor = self.floor_per_second.get(plan.clients)
        is_small = name != "GET floor" and size.object_bytes <= MIB
        self._report.rows.append(
            Row(
                name=name,
                size=size.label,
                clients=plan.clients,
                per_second=result.per_second,
                bytes_per_second=result.per_second * size.object_bytes,
                p50_ms=result.percentile_ms(0.5),
                p99_ms=result.percentile_ms(0.99),
                floor_share=result.per_second / floor if floor and is_small else None,
                generator_share=result.generator_cpu_s / result.seconds,
                cpu_us={process: cpu_s * 1e6 / result.operations for process, cpu_s in cpu.items()},
            )
        )
        _tell(self._report.rows[-1])


def _log_bucket(size: Size) -> str:
    return f"bench-{size.object_bytes}"


def _cpu_of(target: Target) -> dict[str, float]:
    return {name: read_cpu_s(pid) for name, pid in target.pids.items()}


def _tell(row: Row) -> None:
    print(
        f"{row.name} {row.size}, {row.clients} clients: {row.per_second:,.1f}/s", file=sys.stderr, flush=True
    )


def measure(
    *,
    seconds: float,
    sizes: str = "all",
    fronts: int = 1,
    folder: Path | None = None,
    json_file: Path | None = None,
    extras_too: bool = True,
) -> Report:
    """Starts a store, measures it and prints the table. `sizes`: labels of SIZES separated by commas, or "all";
    `folder`: where the temporary directory goes. Ends the process with the store's log when a measurement fails.
    """
    wanted = [size for size in SIZES if sizes == "all" or size.label in sizes.split(",")]
    if not wanted:
        sys.exit(f"--sizes {sizes}: there are {', '.join(size.label for size in SIZES)}")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="trivet-bench-", dir=folder) as made:
        report.machine = this_machine(sync_ms(Path(made)))
        try:
            with running_store(Path(made) / "data", ("--fronts", str(fronts))) as target:
                bench = Bench(target, seconds, report)
                bench.measure_floor()
                for size in wanted:
                    bench.measure_size(size)
                if extras_too:
                    bench.measure_listing()
                    bench.measure_multipart()
                bench.measure_floor()
                report.memory = {name: read_stats(pid) for name, pid in target.pids.items()}
            for size in wanted:
                if extras_too and size.label == LOG_SIZE:
                    measure_cost_of_log(Path(made), seconds, fronts, size, report)
        except (LoadFailed, TargetFailed) as failure:
            log = Path(made) / "store.log"
            sys.exit(f"{failure}\n\nlast lines of the store's log:\n{log.read_text()[-3000:]}")
    report.metrics_us = metrics_cost_us()
    print(report.render())
    if json_file:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    return report


def measure_cost_of_log(folder: Path, seconds: float, fronts: int, size: Size, report: Report) -> None:
    """PUT with the catalog's log on the nodes (S17), and with the catalog on its own disk alone: two new stores side by
    side, loaded in turn, because a machine is not always as fast. Each round begins with the other one."""

    def options(copies: int) -> tuple[str, ...]:
        return "--fronts", str(fronts), "--catalog-copies", str(copies)

    with (
        running_store(folder / "with-log", options(2)) as with_log,
        running_store(folder / "without-log", options(0)) as without,
    ):
        benches = [
            (WITH_LOG, Bench(with_log, seconds, report)),
            (WITHOUT_LOG, Bench(without, seconds, report)),
        ]
        for _, bench in benches:
            bench.prepare_log(size)
        for _ in range(LOG_ROUNDS):
            for name, bench in benches:
                bench.measure_log(name, size)
            benches.reverse()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument(
        "--sizes", default="all", help="labels separated by commas, for example '4 KiB,1 MiB'"
    )
    parser.add_argument("--no-extras", action="store_true", help="without listing and multipart upload")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--fronts", type=int, default=1, help="S3 front processes of the store")
    parser.add_argument("--folder", type=Path, help="where the temporary directory goes (some 20 GB)")
    options = parser.parse_args()
    measure(
        seconds=options.seconds,
        sizes=options.sizes,
        fronts=options.fronts,
        folder=options.folder,
        json_file=options.json,
        extras_too=not options.no_extras,
    )


if __name__ == "__main__":
    main()
