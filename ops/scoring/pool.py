"""A `multiprocessing.Pool` that measures cells, one BLAS and numba thread in each process.

Each process serves cells inside the pool's initializer, over a connection of its own, and so never touches the
pool's queues, whose locks a killed process would keep for ever.  The end of a connection is the death of its
process: its cell is measured again by the one that the pool starts instead.
"""
import importlib
import multiprocessing
import os
import signal
import socket
import tempfile
import time
import traceback
from collections import Counter, deque
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Client, Connection, wait
from typing import NamedTuple

from ops.engine.workers import ONE_THREAD
from ops.errors import InputError
from ops.processes import end_with_parent

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


def _serve(address, name):
    """In a process: connect, then measure cell after cell until the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    end_with_parent(multiprocessing.parent_process())
    try:
        module = importlib.import_module(name)
        with Client(address) as main:
            while True:
                number, cell = main.recv()
                try:
                    reply = measured(module, cell)
                except Exception:
                    reply = traceback.format_exc()
                main.send((number, reply))
    except (EOFError, ConnectionError):
        os._exit(1)


def in_processes(name, cells, count):
    """Yield (number, Outcome) of each of the cells as it comes, measured by the module of that name in `count` processes.

    Raises InputError if none starts, RuntimeError with the traceback for an exception that is no InputError.
    """
    todo, deaths, busy, connections, heard = deque(range(len(cells))), Counter(), {}, [], time.monotonic()
    with ExitStack() as opened:
        server = _listen(opened)
        _start_pool(opened, count, server.getsockname(), name)
        opened.callback(lambda: [connection.close() for connection in connections])
        while todo or busy:
            for ready in wait([server, *connections], POLL_SECONDS):
                heard = time.monotonic()
                if ready is server:
                    connections.append(Connection(server.accept()[0].detach()))
                    continue
                try:
                    number, outcome = ready.recv()
                    del busy[ready]
                except (EOFError, OSError):
                    outcome, number = None, _bury(ready, connections, busy)
                if isinstance(outcome, str):
                    raise RuntimeError(f"in a process of the pool:\n{outcome}")
                if outcome is not None:
                    yield number, outcome
                elif number is not None:
                    deaths[number] += 1
                    if deaths[number] < TRIES:
                        todo.appendleft(number)
                    else:
                        yield number, Outcome(None, f"its process was killed {TRIES} times; is there enough memory?", 0.0)
            if not connections and time.monotonic() - heard > START_SECONDS:
                raise InputError(f"no process started within {START_SECONDS:.0f} s; try --processes 1")
            for connection in [c for c in connections if c not in busy]:
                if todo:
                    _send(connection, todo, cells, busy)


def _send(connection, todo, cells, busy):
    """Give the connection's process the next cell; if it has died meanwhile, the next `wait` tells."""
    busy[connection] = number = todo.popleft()
    try:
        connection.send((number, cells[number]))
    except OSError:
        del busy[connection]
        todo.appendleft(number)


def _bury(connection, connections, busy):
    """Forget the connection of a process that ended; the number of the cell it had, or None."""
    connections.remove(connection)
    connection.close()
    return busy.pop(connection, None)


def _listen(opened):
    """A socket that processes connect to, in a folder of its own."""
    folder = opened.enter_context(tempfile.TemporaryDirectory())
    server = opened.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(os.path.join(folder, "cells"))
    server.listen()
    return server


def _start_pool(opened, count, address, name):
    opened.enter_context(_one_thread())  # for as long as the pool may start processes
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    try:
        pool = multiprocessing.get_context("spawn").Pool(count, _serve, (address, name))
    finally:
        signal.signal(signal.SIGINT, ours)
    opened.callback(pool.join)
    opened.callback(pool.terminate)


@contextmanager
def _one_thread():
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
