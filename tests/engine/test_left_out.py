"""`--without`: what is left out of a run is left out, from its first meta-step to its last, and nothing else."""
from dataclasses import replace

import numpy as np
import pytest

import unsup_meta as um
from ops.engine.left_out import PARTS, free_weights
from ops.engine.live_tasks import draw_task
from ops.engine.shared_memory import layers
from ops.files import load_npz
from small_data import open_tasks, rng
from small_runs import flags, one_line, train
from train import Worker


def test_kernels_keep_their_middle_and_planes_7_to_10_go():
    theta = um.init_theta(rng(0), 6, 4, 3, 5, 2)
    shapes = {name: array.shape for name, array in theta.items()}
    gone = {part: {name: int((free == 0).sum()) for name, free in free_weights(shapes, (part,)).items() if (free == 0).any()}
            for part in PARTS}
    of = lambda names: {f"{name}/w": theta[f"{name}/w"].size * (k - 1) // k for name, k in names.items()}
    assert gone["lateral"] == {"merge": 4} and not gone["v"] and not gone["order"]
    assert gone["conv-unit"] == of({"top_d/unit1": 3, "top_d/unit2": 3, "compute_h/unit1": 3, "compute_h/unit2": 3})
    assert gone["conv-batch"] == of({"top_d/conv1": 5, "top_d/conv2": 3, "top_d/conv3": 3, "top_d/out": 3, "compute_h/conv1": 3,
                                     "compute_h/conv2": 3})
    free = free_weights(shapes, ("conv-batch", "conv-unit", "lateral"))
    for name, axis in (("compute_h/conv1", um.BATCH), ("compute_h/unit1", um.UNIT)):  # a neighbour is not heard
        m = rng(2).normal(size=(6, 7, theta[f"{name}/w"].shape[1]))
        other = m.copy()
        other[(slice(None), 3) if axis == um.UNIT else 3] += 1
        h = [um.conv(a, theta[f"{name}/w"] * free[f"{name}/w"], axis) for a in (m, other)]
        assert (h[0] != h[1]).any(axis=2).sum() == (6 if axis == um.UNIT else 7)


def test_weights_that_are_left_out_are_0_in_every_theta_of_a_run_and_others_are_learned(tmp_path):
    train(tmp_path, *flags(workers=2, theta_start="random", steps=3), "--without", "lateral,conv-unit")
    found = load_npz(tmp_path / "runs/laptop/checkpoint.npz")
    names = [name[6:] for name in found if name.startswith("theta/")]
    free = free_weights({name: found[f"theta/{name}"].shape for name in names}, ("lateral", "conv-unit"))
    flat = np.concatenate([free[name].ravel() for name in names])
    for array in (found["running"], np.concatenate([found[f"theta/{name}"].ravel() for name in names])):
        assert (array[flat == 0] == 0).all() and (array[flat == 1] != 0).mean() > 0.9
    assert (found["running"] != found["previous"])[flat == 1].mean() > 0.5
    one_line(train(tmp_path, *flags(), "--name", "b", "--without", "lateral,units", code=2)[1], "units", "conv-batch")


def test_what_is_left_out_of_a_gradient_does_not_count_in_its_norm():
    c, pools = open_tasks("letters", batch_size=8, hdims=4, delta=3, top=4, rank=2, pairs=1, shots=2, min_units=6, max_units=8,
                          embedding=5, theta_start="random")
    theta = np.concatenate([a.ravel() for a in um.init_theta(rng(0), **c.rule_sizes).values()])
    segment = lambda without: Worker(replace(c, without=without), pools).segment(theta, None, slot=0, generation=0, born=0, t=0, step=0)
    (_, whole, _), (reply, gradient, _) = segment(()), segment(("conv-batch",))
    free = np.concatenate([a.ravel() for a in free_weights(um.theta_shapes(**c.rule_sizes), ("conv-batch",)).values()])
    assert np.array_equal(gradient, whole * free) and (whole[free == 0] != 0).any()
    assert np.isclose(reply["norm"], np.linalg.norm(gradient))


def test_inputs_in_natural_order_are_the_same_inputs():
    c, pools = open_tasks("letters", without=("order",))
    shuffled = draw_task(open_tasks("letters")[0], pools, 0, 0, 0)[0]
    plain = draw_task(c, pools, 0, 0, 0)[0]
    a, b = (task.unlabelled(rng(3), 5) for task in (plain, shuffled))
    assert (plain.permutation == np.arange(196)).all() and not (shuffled.permutation == plain.permutation).all()
    assert np.array_equal(a[:, shuffled.permutation], b) and plain.class_names == shuffled.class_names


@pytest.mark.parametrize("without, same", [(("v",), True), ((), False)])
def test_v_starts_as_w_and_stays_it(without, same):
    c, pools = open_tasks("letters", batch_size=8, hdims=4, delta=3, top=4, rank=2, pairs=1, shots=2, min_units=6, max_units=8,
                          max_layers=3, embedding=5, unroll_start=(4, 4), unroll_end=(4, 4), without=without, theta_start="random")
    theta = um.init_theta(rng(0), **c.rule_sizes)
    flat = np.concatenate([a.ravel() for a in theta.values()])
    reply, _, phi = Worker(c, pools).segment(flat, None, slot=0, generation=0, born=0, t=0, step=0)
    phi = layers(phi, reply["sizes"])
    assert all((np.abs(layer.V - layer.W).max() < 1e-6 * np.abs(layer.W).max()) == same for layer in phi)
