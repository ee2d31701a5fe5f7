"""The reference vectors: every array of an independent implementation's run, to 1e-8 of its largest entry."""
import functools
import os

import numpy as np
import pytest

from checks import channels_first, relative_error, um

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "reference")
NAMES = ("small", "deep")
TOLERANCE = 1e-8  # 5e-13 measured


@functools.cache
def reference(name):
    with np.load(os.path.join(FOLDER, f"reference_{name}.npz")) as archive:
        return {key: archive[key] for key in archive.files}


def theta_of(ref):
    return {key[len("theta/"):]: a for key, a in ref.items() if key.startswith("theta/")}


def phi_of(ref):
    return [um.Layer(ref[f"phi/W{l}"], ref[f"phi/b{l}"], ref[f"phi/V{l}"]) for l in range(1, len(ref["sizes"]))]


def named_layers(prefix, phi):
    """{out/PREFIX_W1: ...} of a base model."""
    return {f"out/{prefix}_{kind}{l}": getattr(layer, kind) for l, layer in enumerate(phi, 1) for kind in "WbV"}


@functools.cache
def computed(name):
    """Everything in the file under out/ and grad/, from this implementation's public functions."""
    ref = reference(name)
    theta, phi, lr = theta_of(ref), phi_of(ref), float(ref["lr"])
    labelled = tuple(ref[key] for key in ("xa", "ya", "xb", "yb"))
    xs, zs, ds, hs = um.hidden_states(phi, ref["x"][0], theta)
    out = {f"out/{kind}{l}": a for kind, many in zip("xzdh", (xs, zs, ds, hs)) for l, a in enumerate(many)}
    for l, (delta_WV, delta_b, _) in enumerate(um.compute_delta_weight(phi, xs, channels_first(hs), theta), 1):
        out |= {f"out/dW{l}": delta_WV[0], f"out/dV{l}": delta_WV[1], f"out/db{l}": delta_b}
    out |= named_layers("next", um.unsupervised_update(phi, ref["x"][0], theta, lr))
    out["out/meta_objective"] = um.meta_objective(phi, *(a[0, 0] for a in labelled))
    report = {}
    out["out/J"], grad, final = um.meta_gradient(theta, phi, ref["x"], labelled, lr, report=report)
    out["out/accuracy"] = report["accuracy"]
    return out | named_layers("final", final) | {f"grad/{key}": a for key, a in grad.items()}


@pytest.mark.parametrize("name, key", [(name, key) for name in NAMES for key in reference(name)
                                       if key.startswith(("out/", "grad/"))])
def test_reference_array(name, key):
    assert relative_error(computed(name)[key], reference(name)[key]) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_out(name):
    """Every array that is computed here is in the file: a gradient for each meta-parameter, no more."""
    assert set(computed(name)) == {key for key in reference(name) if key.startswith(("out/", "grad/"))}
    assert {key for key in computed(name) if key.startswith("grad/")} == {f"grad/{key}" for key in theta_of(reference(name))}


@pytest.mark.parametrize("name", NAMES)
def test_base_model_alone(name):
    ref = reference(name)
    xs, zs = um.base_model(phi_of(ref), ref["x"][0])
    for l, (x, z) in enumerate(zip(xs, zs)):
        assert relative_error(x, ref[f"out/x{l}"]) < TOLERANCE and relative_error(z, ref[f"out/z{l}"]) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_unroll_without_gradient_gives_the_same(name):
    """`unroll` on plain arrays: same J, same phi, and the same J from pairs of batches one by one."""
    ref, got = reference(name), computed(name)
    labelled = tuple(ref[key] for key in ("xa", "ya", "xb", "yb"))
    J, phi = um.unroll(theta_of(ref), phi_of(ref), ref["x"], labelled, float(ref["lr"]))
    assert relative_error(J, ref["out/J"]) < TOLERANCE
    for key, a in named_layers("final", phi).items():
        assert relative_error(a, got[key]) < 1e-14
