"""Estimates of a meta-gradient, d/dtheta of the mean loss over T steps of a system, from segments of U steps.

A system has, for theta a flat vector [P], a state of its own kind and steps a range:

    start()                         the state before step 0
    advance(theta, state, steps)    -> (losses [len(steps)], the state after them)
    gradient(theta, state, steps)   -> (mean loss, its gradient [P], the state after), the first state being a constant

An estimator is a NamedTuple with

    estimate(system, theta, T, rng) -> a gradient [P]

and whatever numbers it needs.  `Truncated` is Algorithm 1's (App. B).  The others differentiate nothing: they set theta apart
both ways, by noise of standard deviation sigma, and see what that does to the loss, `pairs` times.
"""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.engine.live_tasks import draw_task
from ops.engine.shared_memory import views
from ops.rule.theta_file import theta_dims


class Truncated(NamedTuple):
    """The mean of segments' gradients, each through its own U steps alone: biased, but for U = T."""
    U: int

    def estimate(self, system, theta, T, rng=None):
        """[P]; nothing is random."""
        state, total = system.start(), 0
        for steps in segments(T, self.U):
            _, gradient, state = system.gradient(theta, state, steps)
            total = total + gradient * (len(steps) / T)
        return total


class Evolution(NamedTuple):
    """Evolution strategies on truncated segments: each begins at the state that theta itself has led to; biased as `Truncated`.

    (L(theta + e) - L(theta - e)) e / (2 sigma^2), the loss of a segment being its steps' sum over T, then summed.
    """
    U: int
    sigma: float
    pairs: int

    def estimate(self, system, theta, T, rng):
        """[P]."""
        state, total = system.start(), 0
        for steps in segments(T, self.U):
            for _ in range(self.pairs):
                noise = _noise(self.sigma, theta, rng)
                above, below = (system.advance(theta + sign * noise, state, steps)[0].sum() for sign in (1, -1))
                total = total + (above - below) / (2 * self.sigma ** 2 * T * self.pairs) * noise
            _, state = system.advance(theta, state, steps)
        return total


class Persistent(NamedTuple):
    """Persistent evolution strategies (P. Vicol, L. Metz, J. Sohl-Dickstein 2021): unbiased but for sigma.

    Each pair goes on from the two states of its own, and what a segment's loss says is held against the sum of all noise so far.
    """
    U: int
    sigma: float
    pairs: int
    fresh = True  # noise in each segment

    def estimate(self, system, theta, T, rng):
        """[P]."""
        total = 0
        for _ in range(self.pairs):
            states, noise, so_far = [system.start(), system.start()], None, 0
            for steps in segments(T, self.U):
                if noise is None or self.fresh:
                    noise = _noise(self.sigma, theta, rng)
                    so_far = so_far + noise
                losses = []
                for i, sign in enumerate((1, -1)):
                    found, states[i] = system.advance(theta + sign * noise, states[i], steps)
                    losses.append(found.sum())
                total = total + (losses[0] - losses[1]) / (2 * self.sigma ** 2 * T * self.pairs) * so_far
        return total


class NoiseReuse(Persistent):
    """Noise-reuse evolution strategies (O. Li et al. 2023): the same noise in all segments; unbiased too.

    Less variance where segments pull different ways."""
    fresh = False


class UnrolledTask:
    """T steps of a task of `train.py` from some state on, as a system; a state is phi.

    rule: a theta with its lr and norm_eps (a `Learned`); config, pools, slot: which task, as of `draw_task`; the state
    is that after 0 to `warm` updates by the rule.
    """

    def __init__(self, rule, config, pools, slot, warm, T):
        task, sizes, _, rng = draw_task(config, pools, slot, 0, 0)
        self.rule, self.shapes = rule, {name: a.shape for name, a in rule.theta.items()}
        B, dtype = theta_dims(rule.theta)["batch_size"], rule.theta["merge"].dtype
        phi = um.init_phi(rng, sizes, dtype)
        for _ in range(int(rng.integers(warm + 1))):
            phi = um.unsupervised_update(phi, task.unlabelled(rng, B).astype(dtype), rule.theta, rule.lr, rule.norm_eps)
        x, labelled = task.segment(rng, T, B, config.pairs, config.shots)
        self.phi, self.x, self.labelled = phi, x.astype(dtype), [a.astype(dtype) for a in labelled]

    def start(self):
        """phi."""
        return self.phi

    def advance(self, theta, phi, steps):
        """(J after each of the steps, phi after the last)."""
        theta, found = views(theta, self.shapes), []
        for t in steps:
            phi = um.unsupervised_update(phi, self.x[t], theta, self.rule.lr, self.rule.norm_eps)
            found.append(um.meta_objective(phi, *(a[t] for a in self.labelled)))
        return np.array(found, np.float64), phi

    def gradient(self, theta, phi, steps):
        """(mean J, its gradient, phi after)."""
        of = slice(steps.start, steps.stop)
        J, grad, phi = um.meta_gradient(views(theta, self.shapes), phi, self.x[of], [a[of] for a in self.labelled],
                                        self.rule.lr, self.rule.norm_eps)
        return J, np.concatenate([grad[name].ravel() for name in self.shapes]).astype(np.float64), phi


def told(estimates, whole):
    """Of estimates [n, P]: "bias" and "variance", squared lengths over the whole gradient's, and {k: cosine of a mean of k}."""
    n, mean, unit = len(estimates), estimates.mean(axis=0), np.sum(whole ** 2)
    variance = np.sum((estimates - mean) ** 2) / (n - 1)
    means = lambda k: estimates[:n // k * k].reshape(n // k, k, -1).mean(axis=1)
    return {"bias": float((np.sum((mean - whole) ** 2) - variance / n) / unit), "variance": float(variance / unit),
            "cosines": {k: float(np.mean([cosine(m, whole) for m in means(k)])) for k in (1, 4, 16, 64) if k <= n}}


def cosine(a, b):
    """Of two vectors."""
    return float(np.sum(a * b) / np.sqrt(np.sum(a ** 2) * np.sum(b ** 2)))


def segments(T, U):
    """Ranges of U steps that make up T, the last one of what is left."""
    return [range(start, min(start + U, T)) for start in range(0, T, U)]


def _noise(sigma, theta, rng):
    return (sigma * rng.standard_normal(theta.shape)).astype(theta.dtype)
