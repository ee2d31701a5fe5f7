"""VAEs: the right gradient, a likelihood that is one, principal components where all is linear, beta chosen honestly."""
import math

import numpy as np
import pytest

from checks import check_vjp, relative_error
from ops.data import Dataset
from ops.rule.primitive import flatten
from ops.scoring.methods import VAE, BetaVAE, vae
from ops.scoring.methods.network import init_layers
from ops.scoring.settings import ScoreSettings
from small_data import refused, rng
from small_scores import clusters

SETTINGS = ScoreSettings(shots=4, draws=3, batch_reference=50)


def dataset(spread=8.0, classes=3, n=40, features=6):
    """Overlapping clusters, in 0..1."""
    x, y = clusters(spread, classes, n, features)
    half = len(x) // 2
    x = (x - x[:half].min()) / (x[:half].max() - x[:half].min())
    return Dataset("made", x[:half], y[:half], x[half:], y[half:], tuple(map(str, range(classes))))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_gradient_is_that_of_finite_differences(beta):
    networks = [init_layers(rng(1), sizes, np.float64) for sizes in ([7, 6, 5, 4], [2, 5, 6, 14])]
    for layers in networks:
        for _, b in layers:
            b += 0.3 * rng(2).normal(size=b.shape)
    networks[1][-1][1][7:] -= 2  # deviations of about e^-2
    x, noise = rng(3).integers(0, 256, (9, 7)) / 255, rng(4).normal(size=(9, 2))
    loss = lambda *networks: vae.negative_elbo(networks, x, noise, beta)
    check_vjp(loss, networks, range(len(flatten(networks)[0])), rng(5))


@pytest.mark.parametrize("mean, log_sd", [(0.3, -2.0), (0.5, -6.0), (-1.0, 0.0), (0.999, -4.0), (2.0, 1.0)])
def test_the_256_levels_have_the_normal_s_shares(mean, log_sd):
    levels = np.arange(256)[:, None] / 255
    log_p = vae.log_likelihood(levels, np.full_like(levels, mean), np.full_like(levels, log_sd))
    assert math.isclose(np.exp(log_p).sum(), 1, rel_tol=1e-9)
    cdf = lambda x: 0.5 * (1 + math.erf((x - mean) / math.exp(log_sd) / math.sqrt(2)))
    expected = [max(cdf((k + 0.5) / 255) - cdf((k - 0.5) / 255), 1e-12) for k in range(1, 255)]
    assert np.allclose(log_p[1:-1], np.log(expected), atol=1e-3)
    assert math.isclose(np.exp(log_p[0]), max(cdf(0.5 / 255), 1e-12), rel_tol=1e-9)
    between = vae.log_likelihood(levels + 0.4 / 255, np.full_like(levels, mean), np.full_like(levels, log_sd))
    assert np.array_equal(between, log_p)  # rounded


def test_a_linear_vae_spans_the_principal_components():
    latent = rng(1).normal(size=(600, 2)) * [1.0, 0.7]
    x = (0.5 + 0.1 * latent @ rng(2).normal(size=(2, 8)) + 0.03 * rng(3).normal(size=(600, 8))).astype(np.float32)
    *_, (encoder, decoder) = VAE(lr=1e-2, hidden=0).fitted(x, [8, 99, 2], SETTINGS, [1500], 0)
    components = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:2]
    for spanned in (decoder[0][0][:, :8], encoder[0][0][:, :2].T):
        basis = np.linalg.qr(spanned.T)[0]
        assert np.linalg.svd(components @ basis, compute_uv=False).min() > 0.98  # cosines of the angles between
    assert np.abs(decoder[0][1][:8] - x.mean(0)).max() < 0.03


def test_it_learns_and_its_objective_is_measured_with_fixed_statistics():
    x = dataset().x_train
    losses = []
    for networks in VAE(lr=3e-3).fitted(x, [6, 16, 16, 3], SETTINGS, [0, 300], 0):
        losses.append(vae.evaluated_elbo(networks, x, x, rng(1)))
    assert losses[0].shape == (60,) and losses[1].mean() < losses[0].mean() - 3
    # nothing known: a normal of mean 0 and deviation 1 each, and what q loses against the prior
    start = -vae.log_likelihood(x, np.zeros_like(x), np.zeros_like(x))
    assert (losses[0] > start).all() and losses[0].mean() < start.mean() + 5
    alone = vae.evaluated_elbo(networks, x[:2], x, rng(1))  # the statistics and the noise are the same in company
    assert np.allclose(alone, losses[1][:2], rtol=1e-4)


def test_inputs_are_brought_to_0_and_1_where_they_are_beyond():
    data = dataset()
    assert vae.in_unit_range(data) is data
    wide = data._replace(x_train=7 * data.x_train - 3, x_test=7 * data.x_test - 3)
    scaled = vae.in_unit_range(wide)
    assert scaled.x_train.min() == 0 and scaled.x_train.max() == 1
    assert relative_error(scaled.x_test, data.x_test) < 1e-5


def test_depth_and_beta_are_its_own():
    data, sizes = dataset(), [6, 10, 9, 8, 7]
    (encoder, decoder), = VAE(hidden=2).fitted(data.x_train, sizes, SETTINGS, [0], 0)
    assert [W.shape for W, _ in encoder] == [(6, 10), (10, 9), (9, 14)]
    assert [W.shape for W, _ in decoder] == [(7, 9), (9, 10), (10, 12)]
    one, two = (VAE(beta=beta, lr=1e-2).curve(data, sizes, SETTINGS, [40], [0]) for beta in (1.0, 16.0))
    assert not np.array_equal(one, two)


def test_beta_is_the_one_that_does_best_within_the_training_split(monkeypatch):
    data, sizes, steps = dataset(), [6, 10, 9, 4], [0, 30]
    method = BetaVAE(betas=(2, 8, 500), lr=1e-2)
    rights = iter([0.4, 0.7, 0.5])
    seen = []
    monkeypatch.setattr(vae, "accuracy_within", lambda features, y, *more, **named: seen.append((features, y)) or
                        np.full(3, next(rights)))
    beta, found = method.chosen(data, sizes, SETTINGS, steps, 1)
    assert beta == 8 and all(y is data.y_train and len(features) == len(y) for features, y in seen)
    assert np.array_equal(found, VAE(1e-2, 8, 2).curve(data, sizes, SETTINGS, steps, [1])[:, 0])
    monkeypatch.undo()
    others = data._replace(x_test=data.x_test[::-1], y_test=data.y_test)  # the test split has no say
    assert method.chosen(data, sizes, SETTINGS, steps, 1)[0] == method.chosen(others, sizes, SETTINGS, steps, 1)[0]


def test_what_diverges_is_told():
    with np.errstate(all="ignore"):
        refused(["VAE", "within 9 updates", "learning rate"], VAE(lr=1e30).curve, dataset(), [6, 8, 4], SETTINGS, [9], [0])
