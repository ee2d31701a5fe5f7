"""The whole rule: its meta-gradient, what it must leave unchanged, what it refuses."""
import numpy as np
import pytest

from checks import (STEP, as_dtype, definitions, partly_aligned_direction, random_phi, random_problem, random_theta,
                    relative_error, um)
from ops.rule.activations import ACTIVATIONS

LR = 0.1  # large, so that every path into J counts
NETWORKS = {  # layer sizes, batch size, keyword arguments of meta_gradient
    "plain": ([7, 6, 4], 5, {}), "one layer": ([6, 4], 4, {}), "one hidden unit": ([5, 1, 3], 2, {}),
    "one output": ([4, 3, 1], 3, {}), "units of one": ([4, 1, 1, 2], 3, {}), "one input": ([1, 2, 2], 2, {}),
    "six layers": ([6, 5, 4, 5, 4, 5, 3], 4, {}), "squared error": ([7, 6, 4], 5, {"cosine": False}),
    "small e, other ridge": ([5, 4, 3], 4, {"norm_eps": 1e-3, "ridge": 0.5}),
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def length(grads):
    return np.sqrt(sum((g ** 2).sum() for g in grads.values()))


def flat(grads, names):
    return np.concatenate([np.asarray(grads[n], np.float64).ravel() for n in names])


# --- Meta-gradient -------------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("seed", [0, 1])
def test_meta_gradient_equals_finite_differences(network, seed):
    """Each array along one direction, to 2e-5 of the whole gradient (J's rounding), and all of them along the
    gradient to 2e-5 of itself; 7e-6 at worst and 1e-8 typically were measured."""
    sizes, batch_size, options = NETWORKS[network]
    theta, phi, x, labelled = random_problem(seed, sizes, batch_size)
    J = lambda theta: um.unroll(theta, phi, x, labelled, LR, **options)[0]
    value, grad, _ = um.meta_gradient(theta, phi, x, labelled, LR, **options)
    assert relative_error(value, J(theta)) < 1e-14
    rng = np.random.default_rng(seed + 1000)
    for name, g in grad.items():
        step = STEP * partly_aligned_direction(g, rng)
        found = (J({**theta, name: theta[name] + step}) - J({**theta, name: theta[name] - step})) / (2 * STEP)
        assert abs(found - (g * step).sum() / STEP) < 2e-5 * length(grad), name
    steps = {name: STEP * g / max(np.abs(g).max() for g in grad.values()) for name, g in grad.items()}
    ahead, behind = ({n: theta[n] + sign * steps[n] for n in theta} for sign in (1, -1))
    assert relative_error(J(ahead) - J(behind), 2 * sum((g * steps[n]).sum() for n, g in grad.items())) < 2e-5


@every_network
@pytest.mark.parametrize("seed", [2, 3])
def test_meta_gradient_equals_autograd_through_the_definitions(network, seed):
    sizes, batch_size, options = NETWORKS[network]
    theta, phi, x, labelled = random_problem(seed, sizes, batch_size)
    J, grad, final = um.meta_gradient(theta, phi, x, labelled, LR, **options)
    with definitions():
        want_J, want, want_final = um.meta_gradient(theta, phi, x, labelled, LR, **options)
    assert relative_error(J, want_J) < 1e-11 and list(grad) == list(theta)
    for name in theta:
        assert relative_error(grad[name], want[name]) < 1e-9, name  # 1e-11 measured
    for layer, want_layer in zip(final, want_final):
        assert all(relative_error(a, b) < 1e-10 for a, b in zip(layer, want_layer))


@pytest.mark.parametrize("seed", range(4))
def test_float32_gradient_points_where_float64_does(seed):
    problem = random_problem(seed, [49, 24, 24, 16], 16, U=3, K=40, classes=5, hdims=8, delta=4, top=6, rank=3)
    options = dict(lr=3e-3, norm_eps=1e-3)
    J, grad, _ = um.meta_gradient(*problem, **options)
    J32, grad32, phi32 = um.meta_gradient(*as_dtype(problem, np.float32), **options)
    a, b = flat(grad, problem[0]), flat(grad32, problem[0])
    assert all(g.dtype == np.float32 for g in grad32.values()) and all(w.dtype == np.float32 for l in phi32 for w in l)
    assert abs(J32 / J - 1) < 1e-5
    assert 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) < 1e-3  # 4e-5 where a ReLU changes side, else 1e-9
    assert abs(np.linalg.norm(b) / np.linalg.norm(a) - 1) < 5e-3     # 1e-3 there, else 1e-5


def test_meta_gradient_changes_none_of_its_arguments():
    problem = random_problem(0, [5, 4, 3], 4)
    before = as_dtype(problem, np.float64)
    um.meta_gradient(*problem, LR)
    same = lambda a, b: all(np.array_equal(p, q) for p, q in zip(a, b))
    assert same(problem[0].values(), before[0].values()) and same(problem[3], before[3])
    assert np.array_equal(problem[2], before[2]) and all(same(a, b) for a, b in zip(problem[1], before[1]))


def test_phi_may_be_plain_tuples():
    theta, phi, x, labelled = random_problem(0, [5, 4, 3], 4)
    bare = [tuple(layer) for layer in phi]
    assert um.meta_gradient(theta, bare, x, labelled)[0] == um.meta_gradient(theta, phi, x, labelled)[0]
    assert np.array_equal(um.unsupervised_update(bare, x[0], theta)[0].W, um.unsupervised_update(phi, x[0], theta)[0].W)


def test_two_segments_end_where_one_of_both_lengths_does():
    theta, phi, x, labelled = random_problem(0, [7, 6, 4], 5, U=6)
    _, _, whole = um.meta_gradient(theta, phi, x, labelled, LR)
    for part in (slice(0, 3), slice(3, 6)):
        _, _, phi = um.meta_gradient(theta, phi, x[part], tuple(a[part] for a in labelled), LR)
    assert all(np.array_equal(a, b) for layer, other in zip(phi, whole) for a, b in zip(layer, other))


def test_meta_objective_averages_pairs_of_batches():
    _, phi, _, labelled = random_problem(0, [6, 5, 4], 4, U=2, M=3)
    singly = [um.meta_objective(phi, *(a[u, m] for a in labelled)) for u in range(2) for m in range(3)]
    assert relative_error(um.meta_objective(phi, *labelled), np.mean(singly)) < 1e-13


def test_accuracy_looks_at_the_class_columns_alone():
    _, phi, _, (xa, ya, xb, yb) = random_problem(0, [6, 5, 4], 4, U=1, M=1, K=30, classes=3)
    xa, ya, xb, yb = (a[0, 0] for a in (xa, ya, xb, yb))
    extra = lambda y: np.c_[y, 9.0 + y[:, :2]]  # augmentation targets, larger than any class's
    y = extra(ya) - extra(ya).mean()
    y = y / np.sqrt((y ** 2).sum(axis=1).mean())
    A, A2 = (np.c_[um.base_model(phi, x)[0][-1], np.ones(len(x))] for x in (xa, xb))
    p = A2 @ np.linalg.solve(A.T @ A + 0.1 * np.eye(5), A.T @ y)
    got = um.predictions(phi, xa, extra(ya), xb)
    assert relative_error(got, p) < 1e-12
    assert um.accuracy(got, extra(yb), 3) == pytest.approx(np.mean(p[:, :3].argmax(1) == yb.argmax(1)))


# --- What the rule is made of --------------------------------------------------------------------


def test_a_rule_of_its_hebbian_plane_alone():
    """All of merge zero but plane 6: DeltaW follows from x^(l-1), x^l and W by a few lines of NumPy."""
    theta, phi, x, _ = random_problem(0, [7, 6, 4], 5)
    coefficient = 1.7
    theta["merge"] = coefficient * np.eye(10)[5]
    new = um.unsupervised_update(phi, x[0], theta, LR)
    standard = lambda a: (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-6)
    low = x[0]
    for (W, b, V), layer in zip(phi, new):
        high = np.maximum(standard(low @ W) + b, 0)
        hebb = standard(low).T @ standard(high) / len(low)
        merged = coefficient / 10 * hebb / np.sqrt(1 + (hebb ** 2).mean(0))
        for weights, updated in ((W, layer.W), (V, layer.V)):
            unit = weights / np.sqrt((weights ** 2).sum() + 1e-6)
            orth = merged + unit * max(0.0, -(merged * unit).sum())
            assert relative_error(updated, weights * (1 - LR) + LR * orth / np.sqrt(1 + (orth ** 2).mean())) < 1e-12
        low = high


def relabelled(phi, x, order):
    """The same base model and images with the input pixels in another order."""
    first = um.Layer(phi[0].W[order], phi[0].b, phi[0].V[order])
    return [first] + list(phi[1:]), x[..., order]


def largest_difference(phi, x, other_phi, other_x, order):
    """Between a base model's features, and weights up to the order of pixels, and another's."""
    want, _ = relabelled(phi, x, order)
    features = relative_error(um.base_model(other_phi, other_x)[0][-1], um.base_model(phi, x)[0][-1])
    return max([features] + [relative_error(a, b) for layer, w in zip(other_phi, want) for a, b in zip(layer, w)])


@pytest.mark.parametrize("seed", range(3))
def test_relabelling_the_pixels_permutes_W_and_leaves_the_features(seed):
    """Exact once merge is zero for planes 3, 4, 5, 7 and 8, those that read h^(l-1).

    The full rule has it in distribution only: ComputeH gives every input unit a position code and
    convolves along the units, so h^0, and with it these planes of layer 1, depends on which pixels are
    neighbours.  A task's pixels come in a random order, and relabelling a random order gives another
    that is as likely.  That the full rule's difference is not zero shows that this test can fail.
    """
    theta, phi, x, _ = random_problem(seed, [9, 6, 4], 5, U=4)
    order = np.random.default_rng(seed).permutation(9)
    for planes_of_h0, exact in (([], False), ([2, 3, 4, 6, 7], True)):
        theta["merge"][planes_of_h0] = 0
        one, (two, x2) = phi, relabelled(phi, x, order)
        for u in range(len(x)):
            one, two = um.unsupervised_update(one, x[u], theta, LR), um.unsupervised_update(two, x2[u], theta, LR)
        difference = largest_difference(one, x[0], two, x2[0], order)
        assert difference < 1e-10 if exact else difference > 1e-4


@pytest.mark.parametrize("seed", range(6))
def test_updates_never_shrink_the_weights(seed):
    """<DeltaW, W> >= 0 up to the 1e-6 in Wu's root (D8), also where every plane is turned against W."""
    theta, phi, x, _ = random_problem(seed, [7, 6, 4], 5)
    theta["merge"][0] = -5.0 if seed % 2 else theta["merge"][0]
    xs, _, _, hs = um.hidden_states(phi, x[0], theta)
    for layer, delta in zip(phi, um.compute_delta_weight(phi, xs, hs, theta)):
        for W, dW in ((layer.W, delta.W), (layer.V, delta.V)):
            cosine = (dW * W).sum() / np.sqrt((dW ** 2).sum() * (W ** 2).sum())
            assert cosine > -1e-5
            assert not seed % 2 or abs(cosine) < 1e-5  # what was against W is projected out, not turned


@pytest.mark.parametrize("sign", [-1, 1])
def test_biases_do_not_drift_upwards(sign):
    theta = random_theta(np.random.default_rng(0), 5)
    theta["bias"] = sign * np.abs(theta["bias"])
    delta_b = um.delta_bias(np.random.default_rng(1).random((5, 6, 5)), theta)
    assert abs(delta_b.mean()) < 1e-12 if sign > 0 else delta_b.mean() < -0.01


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_updated(activation):
    theta, phi, x, _ = random_problem(0, [7, 6, 4], 5)
    for layer in um.unsupervised_update(phi, x[0], theta, LR, activation=activation):
        assert all(np.isfinite(a).all() for a in layer)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_feature_does_not_depend_on_its_neighbours(activation):
    """D11: batch norm takes the reference batch's statistics; given the batch itself, it is the base model."""
    rng = np.random.default_rng(0)
    phi, x, reference = random_phi(rng, [7, 6, 4]), rng.standard_normal((9, 7)), rng.standard_normal((12, 7))
    together = um.features(phi, x, reference, activation)
    for i in range(9):
        assert relative_error(um.features(phi, x[i:i + 1], reference, activation)[0], together[i]) < 1e-12
    assert relative_error(um.features(phi, x, x, activation), um.base_model(phi, x, activation)[0][-1]) < 1e-12
    assert relative_error(um.features(phi, x, 2 * reference + 1, activation), together) > 1e-3


# --- What does not fit ---------------------------------------------------------------------------


def test_another_batch_size_is_refused_with_both_sizes():
    theta, phi, _, labelled = random_problem(0, [7, 6, 4], 5)
    for call in (lambda x: um.unsupervised_update(phi, x[0], theta), lambda x: um.hidden_states(phi, x[0], theta),
                 lambda x: um.meta_gradient(theta, phi, x, labelled)):
        with pytest.raises(ValueError, match=r"batches of 5\b.*\(13, 7\)"):
            call(np.zeros((3, 13, 7)))


def test_an_array_of_theta_that_does_not_fit_reaches_no_kernel():
    theta, phi, x, _ = random_problem(0, [7, 6, 4], 5)
    with pytest.raises(ValueError, match="error/b"):
        um.hidden_states(phi, x[0], theta | {"error/b": np.zeros(1)})


def test_labels_of_other_points_or_precision_are_refused(kernels):
    _, phi, _, labelled = random_problem(0, [7, 6, 4], 5)
    xa, ya, xb, yb = (a[0, 0] for a in labelled)
    for other in (yb[:1], yb[:, :1], yb.astype(np.float32)):
        with pytest.raises(ValueError):
            um.meta_objective(phi, xa, ya, xb, other)
    with pytest.raises(ValueError, match="float32"):
        um.base_model(phi, xa.astype(np.float32))


@pytest.mark.parametrize("which", ["theta", "phi", "x"])
def test_mixed_dtypes_are_refused(which):
    wide, narrow = random_problem(0, [7, 6, 4], 5), as_dtype(random_problem(0, [7, 6, 4], 5), np.float32)
    theta, phi, x, _ = (narrow[i] if name == which else wide[i] for i, name in enumerate(("theta", "phi", "x", "labelled")))
    with pytest.raises(ValueError, match="float32, float64"):
        um.unsupervised_update(phi, x[0], theta)


def test_layers_that_do_not_chain_are_refused():
    theta, phi, x, _ = random_problem(0, [7, 6, 4], 5)
    short_b, other_V = phi[1]._replace(b=phi[1].b[:3]), phi[1]._replace(V=phi[1].V[:3])
    for bad in ([phi[1], phi[0]], [phi[0], phi[0]], [phi[0], short_b], [phi[0], other_V]):
        with pytest.raises(ValueError, match=r"layer [12] of phi"):
            um.unsupervised_update(bad, x[0], theta)


def test_unknown_activation_is_refused():
    theta, phi, x, _ = random_problem(0, [7, 6, 4], 5)
    with pytest.raises(ValueError, match="unknown activation 'rleu'"):
        um.unsupervised_update(phi, x[0], theta, activation="rleu")
