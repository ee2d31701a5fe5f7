"""Algorithm 1: meta-train theta.  `python train.py --help` lists every setting.

A *task* is a data set, a base-model architecture and a number of inner steps.  A *slot* holds one live
task after another.  A *segment* is U updates of a task's phi and the gradient of J through them; phi_U
is where the task's next segment starts (truncated there).  A meta-step averages the gradients of
`meta_batch` segments and gives them to Adam.

What a worker computes depends on theta, phi and the random streams keyed by (seed, slot, generation,
inner step) alone, never on which worker it is, so in sync mode theta is the same to the bit for any
number of workers.
"""
import dataclasses
import math
import os
import signal
import sys
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from ops.engine.workers import ONE_THREAD

if __name__ == "__main__":
    os.environ.update({name: os.environ.get(name, "1") for name in ONE_THREAD})
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # while there is nothing to save yet

import numpy as np  # noqa: E402  (after the thread counts are set)

import unsup_meta as um  # noqa: E402
from ops.engine import config as settings  # noqa: E402
from ops.engine.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from ops.engine.dispatch import Dispatcher, Stop  # noqa: E402
from ops.engine.draws import SEGMENT, THETA, VALIDATE, draw_task, stream, validation_task  # noqa: E402
from ops.errors import InputError  # noqa: E402
from ops.files import sweep_temporary, write_atomically  # noqa: E402
from ops.engine.flat import flatten, phi_shapes, unflatten  # noqa: E402
from ops.engine.gathering import Gathering, summary  # noqa: E402
from ops.engine.live_task import LiveTask  # noqa: E402
from ops.engine.meta_optimizer import MetaOptimizer, sum_rows  # noqa: E402
from ops.engine.progress import MetricsLog, Progress, status_line  # noqa: E402
from ops.engine.run_memory import rule_sizes, run_arrays  # noqa: E402
from ops.engine.shared_pools import attach_pools, digests, share_pools  # noqa: E402
from ops.engine.shared_memory import SharedArrays, remove_abandoned  # noqa: E402
from ops import tasks  # noqa: E402
from ops.engine.signals import Signals  # noqa: E402
from ops.engine.train_options import parse  # noqa: E402
from ops.engine.workers import WorkerPool, usable_cores  # noqa: E402

HELD_OUT = ("letters", "letters")  # what theta is chosen on: two tasks, the same ones each time


# --- What a worker does ---------------------------------------------------------------------------


class Worker:
    """Runs segments and validations; all large arrays are in shared memory."""

    def __init__(self, config, spec, block, pools):
        self.config = settings.Config(**config)
        self.pool_memory, self.pools = attach_pools(pools)
        self.shared = SharedArrays({n: (tuple(s), d) for n, (s, d) in spec.items()}, block)
        self.shapes = um.theta_shapes(**rule_sizes(self.config))
        self.tasks = {}

    def __call__(self, job):
        try:
            with np.errstate(all="ignore"):  # what is not finite is found, counted and reported
                return self.segment(**job) if "row" in job else self.validate(**job)
        except Exception as error:
            if job.get("slot") in self.tasks:
                task, sizes, _ = self.tasks[job["slot"]][1]
                error.add_note(f"its task: {task.description}, layers {sizes}")
            raise

    def theta(self, version=None):
        """theta of meta-step `version`, or the newest, and which it is; the main process keeps the last two."""
        while True:
            newest = int(self.shared["version"][0])
            wanted = newest if version is None else version
            copy = self.shared["theta"][wanted % 2].copy()
            if version is not None or int(self.shared["version"][0]) == newest:
                return dict(zip(self.shapes, unflatten(copy, self.shapes.values(), copy=False))), wanted

    def live_task(self, slot, generation, born, t):
        """Where Alg. 1 samples a task and K: (task, layer sizes, inner steps, phi_0 if t = 0), remembered while it lives.

        All but phi_0, which is wanted once and takes 2 MB at the paper's sizes.
        """
        known, drawn = self.tasks.get(slot, (None, None))
        if known != generation or t == 0:
            *drawn, rng = draw_task(self.config, self.pools, slot, generation, born)
            self.tasks[slot] = generation, drawn
        return *drawn, um.init_phi(rng, drawn[1]) if t == 0 else None

    def segment(self, job, row, slot, generation, born, t, parity, step, floats, version):
        """The inner loop of Alg. 1: U updates from phi_t, J and its gradient into `row`, phi_(t+U) beside phi_t."""
        config, started = self.config, time.perf_counter()
        task, sizes, horizon, phi = self.live_task(slot, generation, born, t)
        if t > 0:
            pieces = unflatten(self.shared["phi"][slot, parity], phi_shapes(sizes))
            phi = [um.Layer(*pieces[i:i + 3]) for i in range(0, len(pieces), 3)]
        rng = stream(config, SEGMENT, slot, generation, t)
        unrolls = int(rng.integers(*settings.unroll_range(config, step), endpoint=True))
        x, labelled = task.segment(rng, unrolls, config.batch_size, config.pairs, config.shots)
        theta, version = self.theta(version)
        sampled = time.perf_counter()
        J, grad, phi = um.meta_gradient(theta, phi, x, labelled, config.lr, config.norm_eps, config.ridge,
                                        config.objective == "cosine")
        xa, ya, xb, yb = (a[-1] for a in labelled)
        accuracy = um.accuracy(um.predictions(phi, xa, ya, xb, config.ridge), yb, task.classes)
        flatten((grad[name] for name in self.shapes), self.shared["grads"][row])
        end = flatten((a for layer in phi for a in layer), self.shared["phi"][slot, 1 - parity])
        finite = bool(np.isfinite(J) and np.isfinite(self.shared["grads"][row]).all() and np.isfinite(end).all())
        return {"J": J, "accuracy": accuracy, "finite": finite, "unrolls": unrolls, "horizon": horizon,
                "sizes": sizes, "version": version, "kind": task.name.split("-")[0], "task": task.description,
                "phi_norm": float(np.sqrt(np.mean(np.square(end)))),
                "data_s": sampled - started, "unroll_s": time.perf_counter() - sampled}

    def validate(self, job, what, index):
        """J and accuracy of theta on a `validation_task` after `validate_inner_steps` updates of a fresh phi."""
        config, task = self.config, validation_task(self.config, what, index, self.pools)
        rng = stream(config, VALIDATE, index, 1)
        phi, (theta, _) = um.init_phi(rng, [task.features, 128, 128, 128, 128, config.embedding]), self.theta()
        for _ in range(config.validate_inner_steps):
            phi = um.unsupervised_update(phi, task.unlabelled(rng, config.batch_size), theta, config.lr, config.norm_eps)
        xa, ya, xb, yb = task.labelled_pair(rng, config.shots, 50)
        J = um.meta_objective(phi, xa, ya, xb, yb, config.ridge, config.objective == "cosine")
        return {"J": float(J), "accuracy": um.accuracy(um.predictions(phi, xa, ya, xb, config.ridge), yb, task.classes)}


def make_worker(**arguments):
    """What `WorkerPool` builds in each process."""
    return Worker(**arguments)


# --- The main process -----------------------------------------------------------------------------


class MetaTrainer:
    """The state of a run: theta with its optimiser, the live tasks, the meta-step r; and its workers."""

    def __init__(self, config, run, resume, progress, pools):
        self.config, self.run, self.progress, self.data = config, Path(run), progress, digests(pools)
        theta = um.init_theta(stream(config, THETA), **rule_sizes(config))
        self.optimizer = MetaOptimizer(theta, *settings.rates(config), config.clip)
        self.step, self.failures, self.elapsed, self.best, self.validated = 0, 0, 0.0, None, 0
        self.tasks, phis = [LiveTask(slot) for slot in range(config.live_tasks)], {}
        if resume:
            state, phis = load_checkpoint(run, config, self.data, self.optimizer)
            self.tasks = [LiveTask(**t) for t in state["tasks"]]
            for name in ("step", "failures", "elapsed", "best", "validated"):
                setattr(self, name, state[name])
        self.count = min(config.workers or usable_cores(), config.live_tasks)  # one worker a slot at most
        with ExitStack() as opened:
            self._open(opened, pools, phis, resume)
            self.opened = opened.pop_all()
        self.gathering = Gathering(config, self.count)
        self.dispatcher, self.queued = Dispatcher(self.pool, self.say), set()
        self.first, self.recent, self.whole = self.step, deque(maxlen=100), True
        self.started = self.saved = self.logged = time.monotonic()

    def _open(self, opened, pools, phis, resume):
        """The log, shared memory and the workers, to be closed in the opposite order."""
        self.log = MetricsLog(self.run / "metrics.jsonl", self.step if resume else None)
        opened.callback(self.log.close)
        pool_memory, handle = share_pools(pools)
        opened.callback(pool_memory.close)
        self.shared = SharedArrays(run_arrays(self.config, tasks.largest_inputs(pools), self.count))
        opened.callback(self.shared.close)
        for slot, phi in phis.items():
            self.shared["phi"][slot, self.tasks[slot].parity, :len(phi)] = phi
        self.shared["theta"][(self.step - 1) % 2] = self.optimizer.previous
        self.publish()
        self.pool = WorkerPool(self.count, "train", "make_worker", {
            "config": dataclasses.asdict(self.config), "spec": self.shared.spec, "block": self.shared.block,
            "pools": handle})
        opened.callback(self.pool.close)

    def publish(self):
        """Put theta beside its predecessor and say so: a reader copies theta[version % 2], then looks again."""
        self.shared["theta"][self.step % 2] = self.optimizer.vector
        self.shared["version"][0] = self.step

    def say(self, text):
        """A line that stays on the terminal."""
        self.progress.say(f"meta-step {self.step}: {text}")

    def time_is_up(self):
        """Whether this run's minutes have passed."""
        return self.config.minutes and time.monotonic() - self.started > 60 * self.config.minutes

    def segments_of(self, step):
        """The jobs of a sync meta-step: its `meta_batch` slots in turn, those of large or unknown phi first.

        All at the theta of `theta_delay` meta-steps before, so that workers need not wait for Adam.
        """
        config, version = self.config, max(0, step - self.config.theta_delay)
        jobs = []
        for row in range(config.meta_batch):
            index = step * config.meta_batch + row
            task = self.tasks[index % config.live_tasks]
            jobs.append(task.job(index, index % len(self.shared["grads"]), step, version))
        return sorted(jobs, key=lambda job: -(job["floats"] or math.inf))

    def start_segments(self, step, busy=()):
        """Queue the jobs of meta-step `step` that are not queued yet, but not for a slot that is in `busy`."""
        jobs = [job for job in self.segments_of(step) if job["job"] not in self.queued and job["slot"] not in busy]
        self.queued.update(job["job"] for job in jobs)
        self.dispatcher.add(jobs)

    def sync_step(self):
        """Once around the outer loop of Alg. 1: the next `meta_batch` slots at one theta, summed in slot order."""
        config, waited = self.config, time.perf_counter()
        names = range(self.step * config.meta_batch, (self.step + 1) * config.meta_batch)
        chosen = [self.tasks[name % config.live_tasks] for name in names]
        self.start_segments(self.step)
        if config.theta_delay and self.step + 1 < config.steps:
            self.start_segments(self.step + 1, busy={task.slot for task in chosen})
        replies = self.dispatcher.take(names)
        waited = time.perf_counter() - waited
        self.queued.difference_update(names)
        rows = [self.shared["grads"][name % len(self.shared["grads"])] for name in names]
        self.whole = False  # until theta and the log have taken this meta-step too
        for task, reply in zip(chosen, replies):
            task.advance(reply, self.step)
        rows = [row for row, reply in zip(rows, replies) if reply["finite"]]
        self.finish_step(sum_rows(rows) / len(rows) if rows else None, replies, {"wait_s": waited})
        self.note(replies)

    def async_step(self):
        """Once around the outer loop of Alg. 1 as the paper runs it: workers never wait, Adam steps once enough gradients are in."""
        config, gathering, waited = self.config, self.gathering, time.perf_counter()
        while gathering.count < config.meta_batch:
            if self.time_is_up():
                return
            for rank in self.pool.idle():
                self.pool.submit(rank, gathering.next_job(self.tasks, self.step))
            self.gather()
        total, replies, extra = gathering.take()
        self.finish_step(total / config.meta_batch, replies, extra | {"wait_s": time.perf_counter() - waited})

    def gather(self):
        """Async: wait a moment, add the segments that came in to the accumulator."""
        for job, reply in self.dispatcher.receive():
            self.tasks[job["slot"]].advance(reply, self.step)
            self.gathering.add(job, reply, self.shared["grads"][job["row"]], self.step)
            self.note([reply])

    def finish_step(self, gradient, replies, extra):
        """The end of the outer loop of Alg. 1: Adam on the averaged gradient; metrics; the newest theta for the workers.

        gradient: None if no segment's was finite; theta then stays.
        """
        self.whole, now = False, time.monotonic()
        record = {"step": self.step, "seconds": round(self.elapsed + now - self.started, 3)} | summary(replies) | extra
        record |= {"segments_per_s": record["segments"] / max(1e-6, now - self.logged), "restarts": self.pool.restarts}
        started = time.perf_counter()
        if gradient is None:
            self.optimizer.skip()
        else:
            record |= self.optimizer.step(gradient, self.step)
            record |= {"adam_s": time.perf_counter() - started}
            self.recent.append(record)
        self.step += 1
        self.publish()
        self.log.write(record)
        self.whole, self.logged = True, now

    def note(self, replies):
        """Tell of gradients that are not finite; too many in a row end the run."""
        for reply in replies:
            self.failures = 0 if reply["finite"] else self.failures + 1
            if not reply["finite"]:
                self.say(f"J or its gradient is not finite, dropped, task restarted: {reply['task']}, layers {reply['sizes']}")
        if self.failures >= self.config.max_failures:
            raise InputError(f"{self.failures} segments in a row were not finite; start another run (--name) with a lower "
                             "--meta-lr or --lr")

    def validation_is_due(self):
        """Whether this meta-step calls for a validation that was not made yet."""
        every = self.config.validate_steps
        return every and self.step % every == 0 and self.validated < self.step

    def validate(self):
        """Score theta on held-out letters, apart from every training stream; keep the best theta."""
        while self.config.mode == "async" and len(self.pool.idle()) < self.count:
            self.gather()  # let the segments under way come in first
        every = self.config.validate_data_steps
        more = tuple(tasks.DATASETS) if every and self.step % every == 0 else ()  # to be seen, never to choose by
        jobs = [{"job": f"validation {i}", "index": i, "what": what} for i, what in enumerate(HELD_OUT + more)]
        self.dispatcher.add(jobs)
        replies = self.dispatcher.take([job["job"] for job in jobs])
        J, accuracy = (float(np.mean([r[k] for r in replies[:len(HELD_OUT)]])) for k in ("J", "accuracy"))
        record = {"step": self.step - 1, "heldout_J": J, "heldout_accuracy": accuracy}
        for what, reply in zip(more, replies[len(HELD_OUT):]):
            record |= {f"{what}_{name}": reply[name] for name in ("J", "accuracy")}
        self.log.write(record)
        self.validated = self.step
        if math.isfinite(J) and (self.best is None or J < self.best["J"]):
            self.best = {"J": J, "accuracy": accuracy, "step": self.step}
            self.save_theta("theta_best.npz")

    def save_theta(self, name):
        """Write theta beside the settings that applying it needs."""
        um.save_theta(self.run / name, self.optimizer.theta, lr=self.config.lr, norm_eps=self.config.norm_eps)

    def save(self):
        """Write checkpoint.npz, and theta.npz: the best theta so far on held-out letters, else the newest."""
        phis = {t.slot: self.shared["phi"][t.slot, t.parity, :t.floats] for t in self.tasks if t.floats}
        now = time.monotonic()
        state = {"step": self.step, "failures": self.failures, "elapsed": self.elapsed + now - self.started,
                 "best": self.best, "validated": self.validated, "tasks": [dataclasses.asdict(t) for t in self.tasks]}
        save_checkpoint(self.run, self.config, self.data, self.optimizer, state, phis)
        if self.best:
            write_atomically(self.run / "theta.npz", (self.run / "theta_best.npz").read_bytes())
        else:
            self.save_theta("theta.npz")
        self.saved = now

    def train(self):
        """Meta-steps until the last one, the time limit or a signal; saves now and then, and at the end."""
        config = self.config
        meta_step = self.sync_step if config.mode == "sync" else self.async_step
        try:
            if not self.first:
                self.save()  # so that there is something to resume from the first moment on
            if self.validation_is_due():  # the run ended within it
                self.validate()
            while self.step < config.steps and not self.time_is_up():
                meta_step()
                if self.validation_is_due():
                    self.validate()
                due = config.checkpoint_minutes and time.monotonic() - self.saved > 60 * config.checkpoint_minutes
                if due or (config.checkpoint_steps and self.step % config.checkpoint_steps == 0):
                    self.save()
                if self.recent:
                    seconds = time.monotonic() - self.started
                    self.progress.show(status_line(self.step, config, self.recent, self.best, seconds, self.first))
        except Stop:
            pass
        finally:
            if self.whole:
                self.save()

    def close(self):
        """Stop the workers and remove the shared memory."""
        self.opened.close()


def run(config, folder, resume, progress, signals):
    """Meta-train and return True unless a signal ended the run."""
    remove_abandoned()
    sweep_temporary(folder)
    mixture = tasks.parse_mixture(config.tasks)
    pools = tasks.open_pools(mixture, config)  # what tasks cannot give ends the run before anything is written
    pools["letters"] = tasks.letters_pool()  # held-out ones are what theta is chosen on, whatever the mixture
    for task in (draw_task(config, pools, 0, 0, 0)[0], validation_task(config, "letters", 0, pools)):
        task.labelled_pair(stream(config, VALIDATE), config.shots, 1)
    if not resume:
        write_atomically(folder / "config.json", settings.to_json(config).encode())
    contents = tasks.describe(mixture, pools, config.case)
    trainer = MetaTrainer(config, folder, resume, progress, pools)
    pools.clear()  # they lie in shared memory now
    try:
        signals.dispatcher = trainer.dispatcher
        progress.say(contents)
        progress.say(f"meta-training in {folder} with {trainer.count} workers from meta-step {trainer.step}")
        trainer.train()
        progress.say(f"{trainer.step} meta-steps done; theta is in {folder}/theta.npz")
    finally:
        signals.dispatcher = None
        trainer.close()
    return not trainer.dispatcher.stopping


def main(argv=None):
    """The command; returns the exit code."""
    try:
        config, folder, resume, score = parse(argv)
        if not run(config, folder, resume, Progress(), Signals()):
            return 130
        if score:
            import evaluate
            return evaluate.main(["score", "--theta", str(folder / "theta.npz")])
        return 0
    except KeyboardInterrupt:
        return 130
    except InputError as error:
        print(f"train.py: {error}", file=sys.stderr)
    except MemoryError as error:
        print(f"train.py: out of memory ({error}); use smaller settings or less data", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
