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
    """Noise-reuse evolution strategies (O. Li et al. 2023): the same noise in all segments, so less variance; unbiased too."""
    fresh = False


def segments(T, U):
    """Ranges of U steps that make up T, the last one of what is left."""
    return [range(start, min(start + U, T)) for start in range(0, T, U)]


def _noise(sigma, theta, rng):
    return (sigma * rng.standard_normal(theta.shape)).astype(theta.dtype)
