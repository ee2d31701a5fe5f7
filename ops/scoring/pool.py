"""A `multiprocessing.Pool` that measures cells, one BLAS and numba thread in each process.

Each process serves cells inside the pool's initializer, over a connection of its own, and so never touches the
pool's queues, whose locks a killed process would keep for ever.  The end of a connection is the death of its
process: its cell is measured again by the one that the pool starts instead.
"""
import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections import Counter, deque
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from ops.processes import ONE_THREAD
from ops.errors import InputError

POLL_SECONDS = 0.5
START_SECONDS = 120.0
TRIES = 2  # of a cell whose process is killed


class Outcome(NamedTuple):
    """What measuring a cell gave: a value, or the error in words; and the seconds it took."""
    value: object
    error: str | None
    seconds: float


def measured(module, cell):
    """The Outcome of module.measure(cell); an InputError or too little memory is an error in words."""
    started = time.perf_counter()
    try:
        value, error = module.measure(cell), None
    except InputError as bad:
        value, error = None, " ".join(str(bad).split())
    except MemoryError as short:
        value, error = None, f"out of memory ({short}); use smaller settings or less data"
    return Outcome(value, error, time.perf_counter() - started)


def _serve(door, name):
    """In a process: send one end of a connection through the door, then measure the cells that come in at the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    cells, far_end = multiprocessing.Pipe()
    with contextlib.suppress(EOFError, OSError):
        socket.send_fds(door, [b"one more"], [far_end.fileno()])
        far_end.close()
        module = importlib.import_module(name)
        while True:
            number, cell = cells.recv()
            try:
                reply = measured(module, cell)
            except Exception:
                reply = traceback.format_exc()
            cells.send((number, reply))
    os._exit(1)


def _end_with(parent):
    parent.join()
    os._exit(1)


def in_processes(name, cells, count):
    """Yield (number, Outcome) of each cell as it comes, measured by the module of that name in `count` processes.

    Raises InputError if no process starts, RuntimeError with the traceback for an exception that is no InputError.
    """
    todo, deaths, busy = deque(range(len(cells))), Counter(), {}  # busy {connection: number of its cell, None if idle}
    with ExitStack() as opened:
        door, heard = _start_pool(opened, count, name), time.monotonic()
        while todo or any(number is not None for number in busy.values()):
            for ready in wait([door, *busy], POLL_SECONDS):
                heard = time.monotonic()
                if ready is door:
                    busy[Connection(socket.recv_fds(door, 64, 1)[1][0])] = None
                    continue
                try:
                    number, outcome = ready.recv()
                    busy[ready] = None
                except (EOFError, OSError):  # its process was killed; the pool starts another one
                    ready.close()
                    number, outcome = busy.pop(ready), Outcome(None, f"its process was killed {TRIES} times", 0.0)
                    deaths[number] += 1
                    if number is None or deaths[number] < TRIES:
                        todo.extendleft([number] if number is not None else [])
                        continue
                if isinstance(outcome, str):
                    raise RuntimeError(f"in a process of the pool:\n{outcome}")
                yield number, outcome
            if not busy and time.monotonic() - heard > START_SECONDS:
                raise InputError(f"no process started within {START_SECONDS:.0f} s; try --processes 1")
            for connection in [connection for connection, number in busy.items() if number is None][:len(todo)]:
                busy[connection] = todo.popleft()
                with contextlib.suppress(OSError):  # it was killed just now, as the next `wait` will tell
                    connection.send((busy[connection], cells[busy[connection]]))


def _start_pool(opened, count, name):
    """Start the processes; the socket through which each sends its connection."""
    door, theirs = map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    opened.enter_context(_one_thread())  # for as long as the pool may start processes
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    try:
        pool = multiprocessing.get_context("spawn").Pool(count, _serve, (theirs, name))
    finally:
        signal.signal(signal.SIGINT, ours)
    opened.callback(pool.join)
    opened.callback(pool.terminate)
    return door


@contextlib.contextmanager
def _one_thread():
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
