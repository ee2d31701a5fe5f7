"""Algorithm 1: meta-train theta.  `python train.py --help` lists every setting.

A *task* is a data set, a base-model architecture and a number of inner steps.  A *slot* holds one live
task after another.  A *segment* is U updates of a task's phi and the gradient of J through them; phi_U
is where the task's next segment starts (truncated there).  A meta-step averages the gradients of
`meta_batch` segments and gives them to Adam.

What a worker computes depends on theta, phi and the random streams keyed by (seed, slot, generation,
inner step) alone, never on which worker it is, so in sync mode theta is the same to the bit for any
number of workers.
"""
import os
import signal
import sys
import time

from ops.processes import ONE_THREAD, check_python

if __name__ == "__main__":
    check_python("train.py")
    os.environ.update(ONE_THREAD | os.environ)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # while there is nothing to save yet

import numpy as np  # noqa: E402  (after the thread counts are set)

import unsup_meta as um  # noqa: E402
from ops.command_line import exit_code  # noqa: E402
from ops.engine import config as settings  # noqa: E402
from ops.engine.left_out import free_weights  # noqa: E402
from ops.engine.live_tasks import CHECK, SEGMENT, draw_task, stream  # noqa: E402
from ops.engine.meta_optimizer import length  # noqa: E402
from ops.engine.progress import Progress, status_line, summary  # noqa: E402
from ops.engine.run import Run  # noqa: E402
from ops.engine.shared_memory import AVERAGED, layers, views  # noqa: E402
from ops.engine.validation import kept, measured, open_validation  # noqa: E402
from ops.engine.workers import Signals, Stop  # noqa: E402
from ops.errors import InputError  # noqa: E402
from ops.files import held, sweep_temporary  # noqa: E402
from ops.tasks.mixture import describe, open_pools  # noqa: E402


# --- What a worker does ---------------------------------------------------------------------------


class Worker:
    """Computes segments and validations; each is a function of what it is given, whichever worker it comes to.

    pools: {name: Pool}.  theta, phi and gradients are flat vectors here, cut into arrays where the rule takes them.
    """

    def __init__(self, config, pools):
        self.config, self.pools, self.tasks = config, pools, {}
        self.shapes = um.theta_shapes(**config.rule_sizes)
        self.free = free_weights(self.shapes, config.without)

    def __call__(self, job):
        """The reply to a `Job`: what its method returns."""
        try:
            with np.errstate(all="ignore"):  # what is not finite is found, counted and reported
                return getattr(self, job.work)(**job.arguments)
        except Exception as error:
            if job.arguments.get("slot") in self.tasks:
                task, sizes, _ = self.tasks[job.arguments["slot"]][1]
                error.add_note(f"its task: {task.description}, layers {sizes}")
            raise

    def live_task(self, slot, generation, born, phi_0):
        """Where Alg. 1 samples a task and K: (task, layer sizes, inner steps), remembered while it lives, and phi_0.

        Both only where asked for: phi_0 is wanted once and takes 2 MB at the paper's sizes.
        """
        if phi_0 or self.tasks.get(slot, (None,))[0] != generation:
            *drawn, rng = draw_task(self.config, self.pools, slot, generation, born)
            self.tasks[slot] = generation, drawn
        start = um.init_phi(rng, drawn[1]) if phi_0 else None
        if start and "v" in self.config.without:
            start = [layer._replace(V=layer.W) for layer in start]  # as their updates are the same, V stays W
        return *self.tasks[slot][1], start

    def segment(self, theta, phi, slot, generation, born, t, step):
        """The inner loop of Alg. 1: U updates from phi_t, None for phi_0 -> (what is logged with J, its gradient, phi_(t+U))."""
        config, started = self.config, time.perf_counter()
        task, sizes, horizon, phi_0 = self.live_task(slot, generation, born, phi_0=phi is None)
        rng = stream(config, SEGMENT, slot, generation, t)
        unrolls = int(rng.integers(*settings.unroll_range(config, step), endpoint=True))
        x, labelled = task.segment(rng, unrolls, config.batch_size, config.pairs, config.shots)
        sampled = time.perf_counter()
        J, grad, phi_U = um.meta_gradient(views(theta, self.shapes), phi_0 or layers(phi, sizes), x, labelled, config.lr,
                                          config.norm_eps, config.ridge, config.objective == "cosine")
        gradient, end = (np.concatenate([a.ravel() for a in arrays]) for arrays in (
            [grad[name] * free for name, free in self.free.items()], [array for layer in phi_U for array in layer]))
        norm = length(gradient)
        finite = all(np.isfinite(a).all() for a in (J, norm, end))
        xa, ya, xb, yb = (a[-1] for a in labelled)
        accuracy = um.accuracy(um.predictions(phi_U, xa, ya, xb, config.ridge), yb, task.classes) if finite else 0.0
        return {"J": J, "accuracy": accuracy, "finite": finite, "norm": norm,
                "unrolls": unrolls, "horizon": horizon, "sizes": sizes, "set": task.set_name, "task": task.description,
                "phi_norm": float(np.sqrt(np.mean(np.square(end)))),
                "data_s": sampled - started, "unroll_s": time.perf_counter() - sampled}, gradient, end

    def validate(self, theta, **task):
        """J and accuracy of theta on a task of the suite."""
        return measured(self.config, self.pools, views(theta, self.shapes), **task)


# --- The main process -----------------------------------------------------------------------------


class MetaTrainer(Run):
    """The outer loop of Alg. 1 on what a run holds: theta, its optimiser, the live tasks, the meta-step r; workers."""

    def over(self):
        """Whether this run's minutes have passed.  InputError after too many gradients that were not finite."""
        if self.failures >= self.config.max_failures:
            raise InputError(f"{self.failures} segments in a row were not finite; start another run (--name) with a "
                             "lower --meta-lr or --lr")
        return self.config.minutes and time.monotonic() - self.started > 60 * self.config.minutes

    def meta_step(self):
        """Once around the outer loop of Alg. 1: gradients at theta averaged, Adam on theta, theta to the workers."""
        started = time.perf_counter()
        collected = self.accumulator.collect(self.step, self.over)
        if collected is None:
            return
        gradient, replies, extra = collected  # no gradient if none of the segments' was finite; theta then stays
        self.whole, now, done = False, time.monotonic(), time.perf_counter()  # until theta and the log took it too
        record = {"step": self.step, "seconds": round(self.elapsed + now - self.started, 3)} | summary(replies) | extra
        record |= {"wait_s": done - started, "segments_per_s": record["segments"] / max(1e-6, now - self.logged),
                   "restarts": self.workers.restarts}
        if gradient is None:
            self.optimizer.skip()
        else:
            record |= self.optimizer.step(gradient[:len(self.optimizer.theta)], self.step)
            record |= {"adam_s": time.perf_counter() - done}
            self.recent.append(record)
        self.step += 1
        self.accumulator.publish(self.step, self.optimizer.theta)
        self.log.write(record)
        self.whole, self.logged = True, now

    def validation_is_due(self):
        """Whether this meta-step calls for a validation that was not made yet."""
        every = self.config.validate_steps
        return every and self.step % every == 0 and self.validated < self.step

    def validate(self):
        """Score the averaged theta on the suite, apart from every training stream; keep it if it is as good as any (`kept`)."""
        self.accumulator.drain(self.step)
        theta = self.optimizer.averaged
        self.memory["theta"][AVERAGED, :len(theta)] = theta
        record = {"step": self.step - 1} | self.validation.record(self.workers, AVERAGED)
        self.log.write(record)
        self.validated = self.step
        best = record["score"] if self.best is None else self.best["score"]
        if kept([best, record["score"]]):
            self.best, self.best_theta = {"score": max(best, record["score"]), "step": self.step}, theta

    def train(self):
        """Meta-steps until the last one, the time limit or a signal; saves now and then, and at the end."""
        config = self.config
        try:
            if not self.first:
                self.save()  # so that there is something to resume from the first moment on
            self.snapshot()  # also where the run ended before it
            if self.validation_is_due():  # the run ended within it
                self.validate()
            while self.step < config.steps and not self.over():
                self.meta_step()
                self.snapshot()
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


def meta_train(config, folder, resume, progress, signals):
    """Meta-train and return True unless a signal ended the run."""
    for where in (folder, folder / "thetas"):
        sweep_temporary(where)
    pools = open_pools(config.tasks, config)  # what tasks cannot give ends the run before anything is written
    draw_task(config, pools, 0, 0, 0)[0].labelled_pair(stream(config, CHECK), config.shots, 1)
    suite, text = open_validation(config)
    progress.say(f"{describe(config.tasks, pools, config.case)}\n{text}")
    pools |= suite
    with held(folder):
        if not resume:
            settings.check_new(folder)
        trainer = MetaTrainer(config, folder, resume, progress, pools, ("train", "Worker"))
        pools.clear()  # workers have them, in shared memory or each its own
        try:
            signals.workers = trainer.workers
            trainer.train()
            progress.say(f"{trainer.step} meta-steps done; theta is in {folder}/theta.npz")
        finally:
            signals.workers = None
            trainer.close()
    return not trainer.workers.stopping


def main(argv=None):
    """The command; returns the exit code."""
    try:
        config, folder, options = settings.parse(argv)
        if options.plain:
            from ops.rule.fast import use_definitions
            use_definitions()  # here and in the workers, which are not started yet
        if not meta_train(config, folder, options.resume, Progress(), Signals()):
            return 130
        if "v" in config.without:
            print("not scored: `evaluate.py score` gives base models a V of their own")
        elif not options.no_score:
            import evaluate
            return evaluate.main(["score", "--theta", str(folder / "theta.npz")])
        return 0
    except InputError as error:
        print(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)
    except MemoryError as error:
        print(f"train.py: out of memory ({error}); use smaller settings or less data", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(exit_code(main))
