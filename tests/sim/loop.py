"""An event loop whose time jumps, and processes that live on it and can be killed or frozen at any moment.

Nothing here waits: when no callback is ready, the clock moves to the next timer. A process is a context variable
that tasks, callbacks and timers inherit; what belongs to a dead process is never run again (not even `finally`
blocks: SIGKILL runs none), what belongs to a frozen one is kept until it thaws. The same seed gives the same
run: tasks and futures hash by their number, so that sets of them have one order.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final


class Deadlock(Exception):
    """Nothing is ready and no timer is set, but the main task has not ended."""


class Process:
    """What runs in a context where `PROCESS` is this one. Made alive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)
        self._held: list[SimHandle] = []

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        self.dead = True
        self._held.clear()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: what was due meanwhile runs at once, in its order."""
        self.frozen = False
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        for handle in held:
            loop.requeue(handle)

    def hold(self, handle: SimHandle) -> None:
        """Keep a callback until the process thaws."""
        self._held.append(handle)


PROCESS: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("process", default=None)


class SimHandle(asyncio.Handle):
    """A callback that runs only while its process does."""

    __slots__ = ("process",)

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.process: Process | None = self._context.get(PROCESS)  # type: ignore[attr-defined]

    def _run(self) -> None:
        process = self.process
        if process is not None:
            if process.dead:
                return
            if process.frozen:
                process.hold(self)
                return
        asyncio.Handle._run(self)


class SimTimer(SimHandle):
    """The same with a time."""

    __slots__ = ("at",)

    def __init__(
        self,
        at: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.at = at

    def when(self) -> float:
        """As asyncio.TimerHandle."""
        return self.at


class SimTask(asyncio.Task[Any]):
    """A task with a hash that is the same in each run."""

    def __init__(self, *args: Any, serial: int, **kwargs: Any) -> None:
        self._serial = serial  # first: asyncio keeps tasks in a set from its own __init__ on
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._serial


class SimFuture(asyncio.Future[Any]):
    """A future likewise."""

    def __init__(self, *, serial: int, loop: asyncio.AbstractEventLoop) -> None:
        self._serial = serial
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._serial


class SimLoop(asyncio.BaseEventLoop):
    """Runs one schedule. `connect` is asked by `create_connection`: (address, protocol factory)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.connect: Callable[[Any, Callable[[], Any]], Any] | None = None
        self.complain: Callable[[str], None] = lambda what: None
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._serials = itertools.count(1)
        self._tasks: list[SimTask] = []  # kept: a task of a dead process must not be finalised in mid-run
        self._over = False
        self.set_task_factory(self._new_task)
        self.set_exception_handler(lambda _, context: self.complain(_told(context)))

    def _new_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> SimTask:
        task = SimTask(coro, loop=loop, serial=next(self._serials), **kwargs)
        self._tasks.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(serial=next(self._serials), loop=self)

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        """One turn: what is ready now; when nothing is, the clock jumps to the next timers first."""
        ready = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        while not ready:
            if not timers:
                raise Deadlock("nothing is left to happen")
            now = timers[0][0]
            while timers and timers[0][0] <= now:
                timer = heapq.heappop(timers)[2]
                if not timer.cancelled():
                    ready.append(timer)
            if ready:
                self.now = max(self.now, now)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = SimHandle(callback, args, self, context)
        if not self._over:
            self.steps += 1
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def requeue(self, handle: SimHandle) -> None:
        """Run a callback that a frozen process held back."""
        self._ready.append(handle)  # type: ignore[attr-defined]

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimTimer:
        timer = SimTimer(when, callback, args, self, context)
        if not self._over:
            self.steps += 1
            heapq.heappush(self._timers, (when, self.steps, timer))
        return timer

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimTimer:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """There are no threads: what has no executor of its own is done at once."""
        answer = self.create_future()

        def done(future: Future[Any]) -> None:
            if answer.cancelled():
                return
            error = future.exception()
            if error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(error)

        if executor is not None:
            executor.submit(func, *args).add_done_callback(done)
            return answer
        try:
            answer.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to the one that awaits it
            answer.set_exception(error)
        return answer

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        assert self.connect is not None
        return await self.connect((host, port), protocol_factory)

    def finish(self) -> None:
        """End it: whatever finalisers still want to do is dropped."""
        self._over = True
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._timers.clear()
        self.close()

    def _check_closed(self) -> None:
        """A coroutine that is finalised after the end may still ask for something; it gets nothing."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


def _told(context: dict[str, Any]) -> str:
    error = context.get("exception")
    where = ""
    if error is not None:
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " at " + " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{context.get('message')}: {error!r}{where}"
