"""Knock-outs of a rule: each part taken out is that part, and nothing else."""
import numpy as np
import pytest

import unsup_meta as um
from checks import definitions
from ops.scoring.methods import KnockedOut
from ops.scoring.methods.knocked_out import PARTS
from small_data import rng

LR, E = 0.1, 1e-3


@pytest.fixture(scope="module")
def case():
    """theta, phi, x: float64, all ten planes and both constraints at work."""
    theta = um.init_theta(rng(3), 9, 4, 3, 4, 2, np.float64)
    return theta, um.init_phi(rng(4), [6, 5, 8], np.float64), rng(5).normal(size=(9, 6))


def update(case, part):
    theta, phi, x = case
    return KnockedOut(theta, LR, E, part=part).update(phi, x, "relu")


def same(a, b):
    return all(np.allclose(p, q, rtol=1e-9, atol=1e-12) for layers in zip(a, b) for p, q in zip(*layers))


def expected(case, *, theta=None, phi=None, constrained=True, biased=True, moved=lambda l, h: h):
    """The definitions' update, with changes."""
    theta, phi, x = theta or case[0], phi or case[1], case[2]
    xs, _, _, hs = um.hidden_states(phi, x, theta)
    hs, found = [moved(l, h) for l, h in enumerate(hs)], []
    for l, (W, b, V) in enumerate(phi, start=1):
        low, high = (um.batch_norm(a, 0) for a in xs[l - 1:l + 1])
        deltas = []
        for M in (W, V):
            ten = [p / np.sqrt(1 + np.mean(p ** 2, axis=0)) for p in um.planes(M, low, high, hs[l - 1], hs[l], theta)]
            merge = np.tensordot(theta["merge"], ten, 1) / 10
            along = M / np.sqrt(np.sum(M ** 2) + 1e-6)
            orth = merge + constrained * along * max(0, -np.sum(merge * along))
            deltas.append(orth / np.sqrt(E + np.mean(orth ** 2)))
        base = (hs[l] @ theta["bias"]).mean(0)
        base = base - biased * max(0, base.mean())
        delta_b = base / np.sqrt(0.5 + np.mean(base ** 2))
        found.append(um.Layer(*(p + LR * (d - p) for p, d in zip((W, b, V), (deltas[0], delta_b, deltas[1])))))
    return found


def test_the_whole_rule_is_the_rule(case):
    assert same(update(case, "nothing"), um.unsupervised_update(case[1], case[2], case[0], LR, E))
    assert same(update(case, "nothing"), expected(case))


def test_a_plane_taken_out_has_no_weight(case):
    for part, gone in [(f"plane {k}", [k]) for k in range(1, 11)] + [("planes 7 to 10", [7, 8, 9, 10]),
                                                                     ("all but plane 6", [1, 2, 3, 4, 5, 7, 8, 9, 10])]:
        merge = case[0]["merge"].copy()
        merge[np.array(gone) - 1] = 0
        assert same(update(case, part), expected(case, theta=case[0] | {"merge": merge})), part
        assert not same(update(case, part), update(case, "nothing")), part


def test_constraints_copies_and_wrong_neighbours(case):
    theta, phi, x = case
    against = um.init_theta(rng(3), 9, 4, 3, 4, 2, np.float64) | {"merge": -np.abs(theta["merge"])}  # it would shrink W
    case = against, phi, x
    for part, changes in {"App.59": {"constrained": False}, "App.62": {"biased": False},
                          "V (W instead)": {"phi": [layer._replace(V=layer.W) for layer in phi]},
                          "which image h is of": {"moved": lambda l, h: np.roll(h, l, 0)},
                          "which unit h is of": {"moved": lambda l, h: np.roll(h, h.shape[1] // 2, 1)}}.items():
        assert same(update(case, part), expected(case, **changes)), part
        assert part == "App.62" or not same(update(case, part), update(case, "nothing")), part
    upward = against | {"bias": np.abs(against["bias"])}  # biases would grow
    assert same(update((upward, phi, x), "App.62"), expected((upward, phi, x), biased=False))
    assert not same(update((upward, phi, x), "App.62"), update((upward, phi, x), "nothing"))


@pytest.mark.parametrize("part, channels", [("position codes", "p"), ("weight statistics", "s"), ("d^L", "d")])
def test_what_compute_h_does_not_see_makes_no_difference_and_all_else_does(case, part, channels, monkeypatch):
    """Inputs of ComputeH are changed one kind after another; only the one that was taken out may be changed unnoticed."""
    seen = {}
    changes = {"p": (um.np, "linspace", lambda a, b, n, of=um.np.linspace: of(a, b, n) ** 2 + 1),
               "s": (um, "stats", lambda W, axis, of=um.stats: of(W, axis)[:, ::-1] ** 2),
               "d": (um, "top_d", lambda xL, theta, of=um.top_d: of(xL + xL[::-1] ** 2, theta))}
    with definitions():
        plain = update(case, part)
        for kind, (of, name, changed) in changes.items():
            with monkeypatch.context() as patch:
                patch.setattr(of, name, changed)
                seen[kind] = not same(update(case, part), plain)
    assert seen == {kind: kind != channels for kind in changes} and part in PARTS
