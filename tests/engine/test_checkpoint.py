"""Checkpoints: what is saved comes back to the bit, what is damaged is named in one line; files written whole."""
import dataclasses
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ops.engine.checkpoint import load_checkpoint, save_checkpoint
from ops.engine.config import make_config
from ops.errors import InputError
from ops.files import link_atomically, load_npz, sweep_temporary, write_atomically
from ops.engine.live_task import LiveTask
from ops.engine.meta_optimizer import MetaOptimizer
from unsup_meta import init_theta

DATA = {"letters": "12ab"}
SIZES = dict(batch_size=4, hdims=3, delta=2, top=3, rank=2)
CONFIG = make_config("laptop", SIZES | {"live_tasks": 4, "keep_checkpoints": 2, "meta_batch": 2})


def fresh(seed=0):
    theta = init_theta(np.random.default_rng(seed), **SIZES)
    return MetaOptimizer({name: a.astype(np.float32) for name, a in theta.items()}, [], [1e-3], 5.0)


def trained(steps=2):
    optimizer, rng = fresh(), np.random.default_rng(1)
    for step in range(steps):
        optimizer.step(rng.standard_normal(optimizer.vector.size).astype(np.float32), step)
    return optimizer


def state_at(step):
    tasks = [LiveTask(slot, generation=slot, t=3 * slot, parity=slot % 2, floats=5 * slot) for slot in range(4)]
    best = {"J": 0.5, "accuracy": 0.25, "step": 1}
    return {"step": step, "failures": 1, "elapsed": 2.5, "validated": 0, "best": best,
            "tasks": [dataclasses.asdict(task) for task in tasks]}


def phis_of(state):
    rng = np.random.default_rng(2)
    return {t["slot"]: rng.standard_normal(t["floats"]).astype(np.float32) for t in state["tasks"] if t["floats"]}


def save(folder, step=2, optimizer=None, **changes):
    state = state_at(step) | changes
    save_checkpoint(folder, CONFIG, DATA, optimizer or trained(), state, phis_of(state))
    return state


def load(folder, config=CONFIG, data=DATA):
    optimizer = fresh(9)
    return load_checkpoint(folder, config, data, optimizer), optimizer


def visible(folder):
    """Names in the folder; nothing hidden may be left there."""
    names = sorted(path.name for path in folder.iterdir())
    assert not [name for name in names if name.startswith(".")], names
    return names


@pytest.mark.parametrize("steps, best", [(2, {"J": -0.5, "accuracy": 1, "step": 0}), (0, None)])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, steps, best):
    optimizer = trained(steps)
    saved = save(tmp_path, optimizer=optimizer, best=best, more="of train.py")
    (state, phis), other = load(tmp_path)
    assert state == saved and phis.keys() == phis_of(saved).keys() == {1, 2, 3}
    for slot, phi in phis_of(saved).items():
        np.testing.assert_array_equal(phis[slot], phi)
    assert other.adam.steps == steps and other.adam.m.keys() == optimizer.adam.m.keys()
    for mine, its in ((optimizer.vector, other.vector), (optimizer.previous, other.previous)):
        np.testing.assert_array_equal(mine, its)
    for name in other.adam.m:
        np.testing.assert_array_equal(other.adam.m[name], optimizer.adam.m[name])
        np.testing.assert_array_equal(other.adam.v[name], optimizer.adam.v[name])
    gradient = np.ones_like(optimizer.vector)
    optimizer.step(gradient, steps), other.step(gradient, steps)
    np.testing.assert_array_equal(optimizer.vector, other.vector)


# --- Damage: each row changes the arrays or the header of a good file -----------------------------


def rewrite(folder, change):
    """Change the arrays {name: array} and the header of the checkpoint in place."""
    path = folder / "checkpoint.npz"
    arrays = load_npz(path)
    header = json.loads(str(arrays.pop("header")))
    new = change(arrays, header)
    text = json.dumps(header) if not isinstance(new, str) else new
    path.unlink()
    np.savez(path, **({"header": np.array(text)} | arrays))


def drop(name):
    def change(arrays, header):
        del arrays[name]
    return change


def put(name, value):
    def change(arrays, header):
        arrays[name] = value(arrays[name])
    return change


def poison(value):
    def change(array):
        array = array.copy()
        array.flat[array.size // 2] = value
        return array
    return change


def in_state(value, *keys):
    """Set the field of the state at these keys; `KeyError` as the value: remove it."""
    def change(arrays, header):
        inside = header["state"]
        for key in keys[:-1]:
            inside = inside[key]
        if value is KeyError:
            del inside[keys[-1]]
        else:
            inside[keys[-1]] = value
    return change


def in_header(value, key):
    def change(arrays, header):
        header[key] = value
        if value is KeyError:
            del header[key]
    return change


EARLIER = "earlier checkpoint-*.npz"
DAMAGES = [
    ("theta gone", drop("theta/error/w"), ["theta/error/w", "missing", EARLIER]),
    ("theta short", put("theta/merge", lambda a: a[:-1]), ["theta/merge", "(9,)", "(10,)", EARLIER]),
    ("theta NaN", put("theta/error/w", poison(np.nan)), ["theta/error/w", "NaN", EARLIER]),
    ("theta of another type", put("theta/merge", lambda a: a.astype(float)), ["theta/merge", "float64", "float32"]),
    ("theta of text", put("theta/merge", lambda a: np.array("x")), ["theta/merge", EARLIER]),
    ("previous gone", drop("previous"), ["previous", "missing", EARLIER]),
    ("previous short", put("previous", lambda a: a[1:]), ["previous", EARLIER]),
    ("previous infinite", put("previous", poison(np.inf)), ["previous", "infinity", EARLIER]),
    ("m gone", drop("adam/m/theta"), ["adam/m/theta", "missing", EARLIER]),
    ("m NaN", put("adam/m/theta", poison(np.nan)), ["adam/m/theta", "NaN", EARLIER]),
    ("v gone", drop("adam/v/theta"), ["adam/v/theta", "missing", EARLIER]),
    ("v short", put("adam/v/theta", lambda a: a[:3]), ["adam/v/theta", "(3,)", EARLIER]),
    ("v below 0", put("adam/v/theta", poison(-1)), ["adam/v/theta", "below 0", EARLIER]),
    ("phi gone", drop("phi/2"), ["phi/2", "missing", EARLIER]),
    ("phi short", put("phi/2", lambda a: a[:-1]), ["phi/2", "(9,)", "(10,)", EARLIER]),
    ("phi NaN", put("phi/3", poison(np.nan)), ["phi/3", "NaN", EARLIER]),
    ("no header", lambda arrays, header: "{", ["no readable header", EARLIER]),
    ("a list", lambda arrays, header: "[1, 2]", ["no readable header"]),
    ("too deep", lambda arrays, header: "[" * 200000, ["no readable header"]),
    ("no schema", in_header(KeyError, "schema"), ["no readable header"]),
    ("another schema with other fields", lambda arrays, header: '{"schema": 4}', ["schema 4", "reads 3", "version"]),
    ("a schema of text", in_header("3", "schema"), ["schema '3'"]),
    ("no config", in_header(KeyError, "config"), ["'config'", "missing", EARLIER]),
    ("no data", in_header(7, "data"), ["'data'", "7", "object"]),
    ("no state", in_header(KeyError, "state"), ["'state'", "missing"]),
    ("adam's steps", in_header("many", "adam_steps"), ["'adam_steps'", "many", "whole number"]),
    ("step gone", in_state(KeyError, "step"), ["'step'", "missing", EARLIER]),
    ("step of text", in_state("2", "step"), ["'step'", "'2'", "whole number"]),
    ("step true", in_state(True, "step"), ["'step'", "True"]),
    ("step below 0", in_state(-1, "step"), ["'step'", "-1"]),
    ("step too large", in_state(10**30, "step"), ["'step'"]),
    ("failures", in_state(None, "failures"), ["'failures'", "None"]),
    ("validated", in_state("x" * 500, "validated"), ["'validated'"]),
    ("elapsed", in_state(float("nan"), "elapsed"), ["'elapsed'", "nan"]),
    ("elapsed below 0", in_state(-1.0, "elapsed"), ["'elapsed'", "-1.0"]),
    ("best gone", in_state(KeyError, "best"), ["'best'", "missing"]),
    ("best a number", in_state(3, "best"), ["'best'", "3", "object"]),
    ("best without J", in_state(KeyError, "best", "J"), ["'J' of the best theta", "missing"]),
    ("best NaN", in_state(float("nan"), "best", "J"), ["'J' of the best theta", "nan"]),
    ("best's step", in_state(0.5, "best", "step"), ["'step' of the best theta", "0.5"]),
    ("tasks gone", in_state(KeyError, "tasks"), ["'tasks'", "missing"]),
    ("a task less", in_state([], "tasks"), ["'tasks'", "0 of them, want --live-tasks = 4"]),
    ("a task of text", in_state("t", "tasks", 1), ["live task 1", "generation"]),
    ("a field less", in_state(KeyError, "tasks", 1, "t"), ["live task 1", "fields"]),
    ("a field more", in_state(1, "tasks", 1, "extra"), ["live task 1", "fields"]),
    ("a field of text", in_state("9", "tasks", 2, "t"), ["'t' of live task 2", "'9'"]),
    ("another slot", in_state(0, "tasks", 2, "slot"), ["'slot' of live task 2", "2 to 2"]),
    ("parity", in_state(2, "tasks", 2, "parity"), ["'parity' of live task 2", "0 to 1"]),
    ("floats", in_state(11, "tasks", 2, "floats"), ["phi/2", "(10,)", "(11,)"]),
    ("floats where none were", in_state(3, "tasks", 0, "floats"), ["phi/0", "missing"])]


@pytest.mark.parametrize("change, words", [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_damage_is_named_in_one_line_and_the_optimizer_stays(tmp_path, change, words):
    save(tmp_path)
    rewrite(tmp_path, change)
    optimizer = fresh(9)
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path, CONFIG, DATA, optimizer)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "checkpoint.npz")), text
    assert "\n" not in text and len(text) < 400 + len(str(tmp_path)), text
    assert all(word in text for word in words), text
    np.testing.assert_array_equal(optimizer.vector, fresh(9).vector)
    assert optimizer.adam.steps == 0 and not optimizer.adam.m


def test_what_the_message_advises_works(tmp_path):
    save(tmp_path, step=1)
    before = load(tmp_path)[0][0]
    save(tmp_path, step=2)
    rewrite(tmp_path, drop("previous"))
    (tmp_path / "checkpoint.npz").write_bytes((tmp_path / "checkpoint-000000001.npz").read_bytes())
    assert load(tmp_path)[0][0] == before
    save(tmp_path, step=2)  # the step once more, and on from there
    save(tmp_path, step=3)
    assert visible(tmp_path) == ["checkpoint-000000002.npz", "checkpoint-000000003.npz", "checkpoint.npz"]


def test_another_configuration_and_other_data_are_refused(tmp_path):
    save(tmp_path)
    with pytest.raises(InputError, match=r"ridge \(saved 0\.1, now 0\.3\)"):
        load(tmp_path, dataclasses.replace(CONFIG, ridge=0.3))
    with pytest.raises(InputError, match="'letters' does not hold the images"):
        load(tmp_path, data={"letters": "34cd"})
    with pytest.raises(InputError, match="nothing to resume"):
        load(tmp_path / "none")


# --- Saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil, name", [
    (lambda o: o.vector.__setitem__(-1, np.nan), "theta/"), (lambda o: o.previous.__setitem__(0, np.inf), "previous"),
    (lambda o: o.adam.m["theta"].__setitem__(0, np.nan), "adam/m/theta"),
    (lambda o: o.adam.v["theta"].__setitem__(0, np.inf), "adam/v/theta")])
def test_what_is_not_finite_is_not_saved(tmp_path, spoil, name):
    save(tmp_path)
    before, optimizer = (tmp_path / "checkpoint.npz").read_bytes(), trained(3)
    spoil(optimizer)
    with pytest.raises(InputError, match=f"not written: {name}.*NaN or infinity"):
        save(tmp_path, 3, optimizer)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    assert visible(tmp_path) == ["checkpoint-000000002.npz", "checkpoint.npz"]


def test_the_newest_checkpoints_are_kept_and_later_ones_of_a_run_gone_back_do_not_push_them_out(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert visible(tmp_path) == ["checkpoint-000000010.npz", "checkpoint-000000015.npz", "checkpoint.npz"]
    for step in (6, 7, 8):
        save(tmp_path, step)
    assert {"checkpoint-000000007.npz", "checkpoint-000000008.npz"} <= set(visible(tmp_path))
    assert "checkpoint-000000006.npz" not in visible(tmp_path) and load(tmp_path)[0][0]["step"] == 8


def failing(number):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))
    return fail


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSPC, errno.EMLINK])
def test_a_file_system_without_links_gets_a_copy(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "link", failing(number))
    for step in (1, 2):
        save(tmp_path, step)
        assert load(tmp_path)[0][0]["step"] == step
    names = visible(tmp_path)
    assert names == ["checkpoint-000000001.npz", "checkpoint-000000002.npz", "checkpoint.npz"]
    assert not os.path.samefile(tmp_path / names[1], tmp_path / names[2])


@pytest.mark.parametrize("module, name", [("os", "replace"), ("os", "fsync"), ("tempfile", "mkstemp")])
def test_what_cannot_be_written_is_one_line_and_the_last_checkpoint_stays(tmp_path, monkeypatch, module, name):
    save(tmp_path, 1)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{name}", failing(errno.ENOSPC))
        with pytest.raises(InputError, match="checkpoint-000000002.npz: No space left on device") as caught:
            save(tmp_path, 2)
    assert "\n" not in str(caught.value) and (tmp_path / "checkpoint.npz").read_bytes() == before
    assert visible(tmp_path) == ["checkpoint-000000001.npz", "checkpoint.npz"]


def test_a_disk_that_fills_between_the_file_and_its_other_name(tmp_path, monkeypatch):
    save(tmp_path, 1)
    before, synced, fsync = (tmp_path / "checkpoint.npz").read_bytes(), [], os.fsync

    def second_fails(file):
        synced.append(file)
        return fsync(file) if len(synced) == 1 else failing(errno.ENOSPC)()

    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(InputError, match="checkpoint.npz: No space left"):
        save(tmp_path, 2)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before and visible(tmp_path)


def test_old_checkpoints_that_cannot_be_removed_do_no_harm(tmp_path, monkeypatch):
    for step in (1, 2):
        save(tmp_path, step)
    unlink = type(tmp_path).unlink
    monkeypatch.setattr(type(tmp_path), "unlink", lambda self, **options: failing(errno.EACCES)()
                        if self.name.startswith("checkpoint-") else unlink(self, **options))
    save(tmp_path, 3)
    assert load(tmp_path)[0][0]["step"] == 3 and len(visible(tmp_path)) == 4


def test_a_link_replaces_whatever_was_there(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    for _ in range(2):  # the second time it is that file already
        link_atomically(tmp_path / "b", tmp_path / "a")
        assert (tmp_path / "b").read_text() == "a" and visible(tmp_path) == ["a", "b"]
    with pytest.raises(InputError, match="cannot be read"):
        link_atomically(tmp_path / "b", tmp_path / "none")
    assert (tmp_path / "b").read_text() == "a"


def test_what_a_writer_killed_half_way_left_is_swept_up_and_a_living_ones_is_not(tmp_path, monkeypatch):
    path = tmp_path / "theta.npz"
    code = ("import os, sys\nfrom ops.files import write_atomically\nos.fsync = lambda f: os.kill(os.getpid(), 9)\n"
            "write_atomically(sys.argv[1], b'half')")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    dead = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root)
    left = os.listdir(tmp_path)
    assert dead.returncode == -9 and len(left) == 1 and left[0].startswith(".theta.npz.")
    pid = int(left[0].split(".")[3])
    for name in (f".checkpoint.npz.{pid}._linking", f".metrics.jsonl.{os.getpid()}.abcd_123", "theta.npz", ".hidden",
                 f".theta.npz.{pid}", f"metrics.jsonl.{pid}.abcd_123"):
        (tmp_path / name).write_text("x")
    assert sorted(sweep_temporary(tmp_path)) == sorted([left[0], f".checkpoint.npz.{pid}._linking"])
    assert len(os.listdir(tmp_path)) == 5 and sweep_temporary(tmp_path) == [] == sweep_temporary(tmp_path / "none")

    def look(file):
        names.extend(os.listdir(tmp_path))

    names = []
    monkeypatch.setattr(os, "fsync", look)
    write_atomically(path, b"whole")
    assert [name for name in names if name.startswith(f".theta.npz.{os.getpid()}.")] and path.read_bytes() == b"whole"
