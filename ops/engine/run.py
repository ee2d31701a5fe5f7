"""A run between two meta-steps: all that it goes on from, opened, saved and resumed."""
import json
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import asdict

import unsup_meta as um
from ops.engine import workers
from ops.engine.accumulator import AsTheyCome, InStep
from ops.engine.checkpoint import digests, load_checkpoint, save_checkpoint
from ops.engine.config import as_json, snapshot_is_due
from ops.engine.left_out import free_weights
from ops.engine.live_tasks import THETA, LiveTask, stream
from ops.engine.meta_optimizer import MetaOptimizer
from ops.engine.progress import MetricsLog
from ops.engine.shared_memory import SharedPools, run_memory, views
from ops.engine.validation import Validation
from ops.engine.workers import ByValue, Workers
from ops.errors import InputError
from ops.files import write_atomically
from ops.pools import pool_class
from ops.processes import usable_cores
from ops.rule.fast import definitions_in_use
from ops.rule.hebbian import STARTS
from ops.rule.theta_file import load_settings, theta_dims
from ops.tasks.mixture import largest_inputs


class Run:
    """theta with its optimiser, the live tasks, the meta-step r, the best theta so far; the log and the workers.

    config: its `Config`; folder: runs/NAME, a Path; pools {name: Pool}; worker: what computes segments and validations in
    each process, as (module, name).  Raises InputError where there is too little memory, or nothing to resume.
    """

    def __init__(self, config, folder, resume, progress, pools, worker):
        self.config, self.folder, self.progress, self.data = config, folder, progress, digests(pools)
        self.step, self.failures, self.elapsed, self.best, self.best_theta, self.validated = 0, 0, 0.0, None, None, 0
        self.validation = Validation(config, pools)
        theta = um.init_theta(stream(config, THETA), **config.rule_sizes)
        if config.theta_start in STARTS:
            theta = STARTS[config.theta_start](theta)
        if config.init_theta and not resume:
            theta = self._given_theta(config.init_theta, theta)
        free = free_weights({name: array.shape for name, array in theta.items()}, config.without)
        theta = {name: array * free[name] for name, array in theta.items()}
        self.optimizer = MetaOptimizer(theta, config.meta_lr_boundaries, config.meta_lr, config.clip,
                                       config.theta_decay)
        self.live, arrays = [LiveTask(slot) for slot in range(config.live_tasks)], {}
        if resume:
            state, arrays = load_checkpoint(folder, config, self.data)
            self.optimizer.restore(arrays, state["adam_steps"])
            self.live, self.best_theta = [LiveTask(**task) for task in state["tasks"]], arrays.get("best")
            for name in ("step", "failures", "elapsed", "best", "validated"):
                setattr(self, name, state[name])
        self._open(resume, pools, arrays, worker)
        self.first, self.recent, self.whole = self.step, deque(maxlen=100), True
        self.started = self.saved = self.logged = time.monotonic()

    def _given_theta(self, path, fresh):
        """The theta of a file, in the order of the arrays of `fresh`; a line where it was learned with other settings.

        Raises InputError for a file that `um.load_theta` refuses, or whose sizes are not the run's.
        """
        theta, sizes = um.load_theta(path), self.config.rule_sizes
        dims = theta_dims(theta)
        if other := [name for name in sizes if dims[name] != sizes[name]]:
            told = lambda values: ", ".join(f"{name} {values[name]}" for name in other)
            mend = " ".join(f"--{name.replace('_', '-')} {dims[name]}" for name in other)
            raise InputError(f"--init-theta {path} has {told(dims)}, this run {told(sizes)}; add {mend}, or start from "
                             "another theta")
        now = {name: getattr(self.config, name) for name in ("lr", "norm_eps")}
        if other := {name: value for name, value in load_settings(path, now).items() if value != now[name]}:
            self.say(f"{path} was learned with " + ", ".join(f"{name} {value:g}, this run has {now[name]:g}"
                                                             for name, value in other.items()))
        return {name: theta[name].astype(array.dtype) for name, array in fresh.items()}

    def _open(self, resume, pools, arrays, worker):
        """Shared memory, the log and the workers."""
        config, count = self.config, min(self.config.workers or usable_cores(), self.config.live_tasks)
        kind = pool_class(config.pool) if config.pool else None
        images = None if kind else SharedPools(pools)
        self.memory = run_memory(config, largest_inputs(pools), count)  # one worker a slot at most
        shared = self.memory.nbytes + (images.arrays.nbytes if images else 0)
        place = f" of {config.pool}" if kind else f" and {shared / 1e6:,.0f} MB of shared memory"
        self.progress.say(f"meta-training in {self.folder} with {count} workers{place} from meta-step {self.step}")
        for task in self.live:
            if task.floats:
                self.memory["phi"][task.slot, task.parity, :task.floats] = arrays[f"phi/{task.slot}"]
        if not (self.folder / "config.json").exists():
            write_atomically(self.folder / "config.json", json.dumps(as_json(config), indent=1).encode())
        with ExitStack() as opened:
            self.log = MetricsLog(self.folder / "metrics.jsonl", self.step if resume else None, self.validated)
            opened.callback(self.log.close)
            self.workers = self._start(kind, count, {"worker": worker, "config": config}, images)
            opened.callback(self.workers.close)
            self.close = opened.pop_all().close
        mode = InStep if config.mode == "sync" else AsTheyCome
        self.accumulator = mode(config, self.workers, self.memory, self.live, self.note)
        self.accumulator.publish(self.step - 1, self.optimizer.previous)
        self.accumulator.publish(self.step, self.optimizer.theta)

    def _start(self, kind, count, arguments, images):
        """The workers, by value through pools of the class `kind`; on this machine without one."""
        if kind:
            arguments |= {"data": self.data, "plain": definitions_in_use()}
            return ByValue(kind, count, arguments, self.memory, self.say)
        preload, _ = arguments["worker"]
        arguments |= {"memory": self.memory, "pools": images}
        return Workers(count, workers.__name__, "SharedWorker", arguments, self.say, preload=(preload,))

    def say(self, text):
        """A line that stays on the terminal."""
        self.progress.say(f"meta-step {self.step}: {text}")

    def note(self, reply):
        """Count and tell of gradients that are not finite."""
        self.failures = 0 if reply["finite"] else self.failures + 1
        if not reply["finite"]:
            self.say(f"J or its gradient is not finite, dropped, task restarted: {reply['task']}, "
                     f"layers {reply['sizes']}")

    def save(self):
        """Write checkpoint.npz; theta.npz: the averaged theta that validation keeps, else the newest."""
        now, optimizer = time.monotonic(), self.optimizer
        state = {"step": self.step, "failures": self.failures, "elapsed": self.elapsed + now - self.started,
                 "best": self.best, "validated": self.validated, "adam_steps": optimizer.steps,
                 "tasks": [asdict(task) for task in self.live]}
        phis = {f"phi/{t.slot}": self.memory["phi"][t.slot, t.parity, :t.floats] for t in self.live if t.floats}
        best = {} if self.best is None else {"best": self.best_theta}
        save_checkpoint(self.folder, self.config, self.data, state, optimizer.arrays() | phis | best)
        self._write_theta("theta.npz", optimizer.averaged if self.best is None else self.best_theta)
        self.saved = now

    def snapshot(self):
        """Where one is due, write thetas/theta-STEP.npz: the averaged theta; at meta-step 0 the untrained one."""
        if snapshot_is_due(self.config, self.step):
            self._write_theta(f"thetas/theta-{self.step:09d}.npz", self.optimizer.averaged)

    def _write_theta(self, name, vector):
        um.save_theta(self.folder / name, views(vector, self.optimizer.shapes), lr=self.config.lr,
                      norm_eps=self.config.norm_eps)
