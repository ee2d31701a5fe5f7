"""The reference vectors: every array of an independent implementation's run, to 1e-8 of its largest entry."""
import functools
import os

import numpy as np
import pytest

from checks import definitions, relative_error, um

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "reference")
NAMES = ("small", "deep")
TOLERANCE = 1e-8  # 7e-13 measured
both_modes = pytest.mark.parametrize("plain", [False, True], ids=["kernels", "definitions"])


@functools.cache
def reference(name):
    with np.load(os.path.join(FOLDER, f"reference_{name}.npz")) as archive:
        return {key: archive[key] for key in archive.files}


def theta_of(ref):
    return {key[len("theta/"):]: a for key, a in ref.items() if key.startswith("theta/")}


def phi_of(ref):
    return [um.Layer(ref[f"phi/W{l}"], ref[f"phi/b{l}"], ref[f"phi/V{l}"]) for l in range(1, len(ref["sizes"]))]


def named_layers(prefix, phi, sep="_"):
    """{out/PREFIX_W1: ...} of a base model."""
    return {f"out/{prefix}{sep}{kind}{l}": getattr(layer, kind) for l, layer in enumerate(phi, 1) for kind in "WbV"}


@functools.cache
def computed(name, plain):
    """Everything in the file under out/ and grad/, from the public functions, as definitions or by their kernels."""
    with definitions(plain):
        return computed_now(reference(name))


def computed_now(ref):
    theta, phi, lr = theta_of(ref), phi_of(ref), float(ref["lr"])
    labelled = tuple(ref[key] for key in ("xa", "ya", "xb", "yb"))
    xs, zs, ds, hs = um.hidden_states(phi, ref["x"][0], theta)
    out = {f"out/{kind}{l}": a for kind, many in zip("xzdh", (xs, zs, ds, hs)) for l, a in enumerate(many)}
    out |= named_layers("d", um.compute_delta_weight(phi, xs, hs, theta), sep="")
    out |= named_layers("next", um.unsupervised_update(phi, ref["x"][0], theta, lr))
    out["out/meta_objective"] = um.meta_objective(phi, *(a[0, 0] for a in labelled))
    out["out/J"], grad, final = um.meta_gradient(theta, phi, ref["x"], labelled, lr)
    out["out/accuracy"] = np.mean([um.accuracy(um.predictions(state, *(a[u] for a in labelled[:3])), labelled[3][u])
                                   for u, state in enumerate(states(theta, phi, ref["x"], lr))])
    return out | named_layers("final", final) | {f"grad/{key}": a for key, a in grad.items()}


def states(theta, phi, x, lr):
    """phi after each update."""
    for batch in x:
        phi = um.unsupervised_update(phi, batch, theta, lr)
        yield phi


@both_modes
@pytest.mark.parametrize("name, key", [(name, key) for name in NAMES for key in reference(name)
                                       if key.startswith(("out/", "grad/"))])
def test_reference_array(name, key, plain):
    assert relative_error(computed(name, plain)[key], reference(name)[key]) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_out(name):
    """Every array that is computed here is in the file: a gradient for each meta-parameter, no more."""
    every = set(computed(name, False))
    assert every == {key for key in reference(name) if key.startswith(("out/", "grad/"))}
    assert {key for key in every if key.startswith("grad/")} == {f"grad/{key}" for key in theta_of(reference(name))}


@both_modes
@pytest.mark.parametrize("name", NAMES)
def test_base_model_and_unroll_without_a_gradient_give_the_same(name, plain):
    ref, got = reference(name), computed(name, plain)
    labelled = tuple(ref[key] for key in ("xa", "ya", "xb", "yb"))
    with definitions(plain):
        xs, zs = um.base_model(phi_of(ref), ref["x"][0])
        J, phi = um.unroll(theta_of(ref), phi_of(ref), ref["x"], labelled, float(ref["lr"]))
    for l, (x, z) in enumerate(zip(xs, zs)):
        assert relative_error(x, ref[f"out/x{l}"]) < TOLERANCE and relative_error(z, ref[f"out/z{l}"]) < TOLERANCE
    assert relative_error(J, ref["out/J"]) < TOLERANCE
    for key, a in named_layers("final", phi).items():
        assert relative_error(a, got[key]) < 1e-14
