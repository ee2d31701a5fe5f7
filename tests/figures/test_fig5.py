"""`figure fig5-width`, `fig5-depth`, `fig5-activations`, `w3-architectures`: numbers are scores, which steps, the claims."""
import json

import numpy as np
import pytest

import evaluate
from figures import architectures, fig5_activations, fig5_depth, fig5_width, w3_architectures
from ops.errors import InputError
from ops.scoring import score
from small_data import small_theta
from small_scores import clusters, refused_command
from unsup_meta import save_theta

SHORT = ["--inner-steps", "1,3", "--draws", "3", "--seeds", "2", "--shots", "5", "--processes", "1", "--baselines", "raw"]
FIGURES = {"fig5-width": ["--widths", "8,3", "--depth", "2"], "fig5-depth": ["--depths", "1,2", "--width", "4"],
           "fig5-activations": ["--activations", "relu,step"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig5")
    for seed in (0, 1):
        save_theta(folder / f"{seed}.npz", small_theta(seed), lr=3e-2, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(folder / "few.npz", x=x, y=y)
    return folder


def arguments(folder, name, *more):
    thetas = [flag for seed in (0, 1) for flag in ("--theta", f"s{seed}={folder}/{seed}.npz")]
    return ["figure", name, "--folder", str(folder), *thetas, "--data", str(folder / "few.npz"), *SHORT, *FIGURES[name], *more]


def numbers(folder, name, *more):
    assert evaluate.main(arguments(folder, name, *more)) == 0
    assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name, values, sizes, activation", [
    ("fig5-width", [3, 8], "5,8,8,32", "relu"), ("fig5-depth", [1, 2], "5,4,4,32", "relu"),
    ("fig5-activations", ["relu", "step"], "5,128,128,128,128,32", "step")])
def test_numbers_are_scores_of_such_base_models(folder, name, values, sizes, activation, capsys):
    found = numbers(folder, name)
    lines = capsys.readouterr().out.splitlines()
    assert [bar["value"] for bar in found["bars"]] == values and list(found["baselines"]) == ["raw"] and not found["failed"]
    assert all(list(bar["steps"]) == ["0", "1", "3"] for bar in found["bars"])
    last = found["bars"][-1]["steps"]["3"]
    assert last["n"] == 2 * 2 * 3
    for seed in (0, 1):
        out = folder / "score.json"
        assert evaluate.main(["score", "--theta", f"{folder}/{seed}.npz", "--data", str(folder / "few.npz"), "--json", str(out),
                              *SHORT[2:], "--inner-steps", "3", "--sizes", sizes, "--activation", activation]) == 0
        assert last["thetas"][f"s{seed}"] == json.loads(out.read_text())["rows"][1]["mean"]
    assert np.isclose(last["mean"], np.mean(list(last["thetas"].values())))
    assert any(line.startswith(str(values[-1])) and f"{last['mean']:.3f}" in line for line in lines)


def test_wide_base_models_have_fewer_steps_and_the_widest_one_seed(folder):
    settings = fig5_width.Settings(theta=(("a", f"{folder}/0.npz"),), data=str(folder / "few.npz"), shots=5, widths=(512, 513),
                                   inner_steps=(30, 100, 300), wide_steps=100, widest=True, baselines=("none",))
    found = {}
    for cell in fig5_width.cells(settings):
        found.setdefault(cell["value"], []).append((cell["data"]["sizes"][1:], cell["steps"], cell["seed"]))
    assert found == {width: [([width] * 4 + [32], steps, seed) for seed in range(seeds)] for width, steps, seeds in (
        (512, [0, 30, 100, 300], 3), (513, [0, 30, 100], 3), (10_000, [0, 30], 1))}


def claims(monkeypatch, module, of, **settings):
    """The claims of accuracies {value: {step: mean}} with little noise, 3 seeds but of the value that is last."""
    results, rng = [], np.random.default_rng(0)
    common = 0.05 * rng.normal(size=20)
    for i, (value, steps) in enumerate(of.items()):
        seeds = 1 if i == len(of) - 1 and i else 3
        values = [mean + common + 0.002 * rng.normal(size=(seeds, 20)) for mean in steps.values()]
        cell = {"data": {"data": "d"}, "method": "learned", "label": f"a, {value}", "value": value, "theta": "a",
                "steps": list(steps)}
        results.append((cell, np.stack(values)[..., None], None))
    results.append(({**results[0][0], "label": "a, bad", "value": "bad"}, None, "it failed"))
    monkeypatch.setattr(score, "gathered", lambda _: results)
    if module is not fig5_activations:
        results.pop()
    found = module.numbers(module.Settings(inner_steps=(30, 100), **settings), [])
    assert module.words(found)
    return {text: c and c["holds"] for text, c in found["claim"].items()}


def test_claims_of_width_compare_with_the_widest_that_was_met(monkeypatch):
    assert claims(monkeypatch, fig5_width, {
        64: {0: .3, 30: .9, 100: .9}, 96: {0: .3, 30: .5, 100: .6}, 512: {0: .3, 30: .5, 100: .65}, 1024: {0: .4, 30: .4}}) == {
        "learning works at 512 units (100 inner steps)": True,
        "512 units are better than 96, which were met (100 inner steps)": True,
        "learning works at 1,024 units (30 inner steps)": False,
        "1,024 units are better than 96, which were met (30 inner steps)": False}


def test_claims_of_depth_are_of_depths_never_met(monkeypatch):
    assert claims(monkeypatch, fig5_depth, {5: {0: .3, 100: .2}, 7: {0: .3, 100: .5}, 11: {0: .3, 100: .3}}) == {
        "learning works with 7 hidden layers (100 inner steps)": True,
        "learning works with 11 hidden layers (100 inner steps)": False}


def test_claims_of_activations(monkeypatch):
    assert claims(monkeypatch, fig5_activations, {
        "relu": {0: .3, 100: .7}, "leaky_relu": {0: .3, 100: .69}, "swish": {0: .3, 100: .6}, "step": {0: .2, 100: .45}}) == {
        **{f"{name} gains on its random start (100 inner steps)": True for name in ("relu", "leaky_relu", "swish", "step")},
        "bad gains on its random start (100 inner steps)": None, "leaky_relu loses no more than 0.02 against relu": True,
        "swish loses no more than 0.02 against relu": False, "step reaches twice its random start": True}


def test_workshop_figure_has_curves_of_widths_and_depths(folder, capsys):
    found = numbers_of_workshop(folder)
    assert [bar["value"] for bar in found["bars"]] == ["width 4", "width 64", "depth 1", "depth 6"]
    assert all(list(bar["steps"]) == ["0", "1", "2", "3"] for bar in found["bars"])
    assert {text.split(" (")[0] for text in found["claim"]} == {"learning works with width 4", "learning works with depth 1",
                                                                "learning works with depth 6"}
    left, right = w3_architectures.draw(found).axes[:2]
    lost = found | {"bars": found["bars"][:-1] + [found["bars"][-1] | {"steps": {}}]}
    assert w3_architectures.draw(lost) and w3_architectures.draw(found | {"bars": []})
    for module, name in ((w3_architectures, "trained_widths"), (fig5_width, "trained"), (fig5_depth, "trained")):
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')}"):
            module.cells(module.Settings(**{name: (32,)}))
    styles = lambda axes: [line.get_linestyle() for line in axes.lines if line.get_marker() == "o"]
    assert styles(left) == ["--", "-"] and styles(right) == ["--", "--"]  # solid: met in meta-training


def numbers_of_workshop(folder):
    FIGURES["w3-architectures"] = ["--widths", "4,64", "--depths", "1,6", "--width", "4", "--inner-steps", "3"]
    arguments_of = arguments(folder, "w3-architectures")
    del arguments_of[arguments_of.index("1,3") - 1:arguments_of.index("1,3") + 1]
    assert evaluate.main(arguments_of) == 0
    return json.loads((folder / "w3-architectures.json").read_text())


def test_a_difference_is_over_common_seeds_and_thetas():
    after, before = {"a": np.full((1, 4), .5), "b": np.full((2, 4), .9)}, {"a": np.array([[.3] * 4, [0.] * 4])}
    assert np.isclose(architectures.difference(after, before)["difference"], .2)
    assert architectures.difference(after, {}) is None


def test_an_unknown_activation_is_refused(folder, capsys):
    refused_command(capsys, arguments(folder, "fig5-activations", "--activations", "relu,rulu"), ["'rulu'"])
