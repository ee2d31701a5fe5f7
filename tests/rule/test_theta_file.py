"""theta as a file: it comes back as it was, and damage is refused in one line."""
import os
import zipfile

import numpy as np
import pytest

from checks import random_theta, um
from ops.errors import InputError
from ops.rule.theta_file import load_settings


def written(folder, **config):
    """(path of a saved theta, the theta)."""
    theta, path = random_theta(np.random.default_rng(0), 4, dtype=np.float32), folder / "theta.npz"
    um.save_theta(path, theta, **config)
    return path, theta


def refused(call, *words):
    """The call raises a ValueError of one line that holds all the words."""
    with pytest.raises(ValueError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_theta_survives_its_file(tmp_path):
    path, theta = written(tmp_path, lr=3e-3, norm_eps=1e-3)
    loaded = um.load_theta(path)
    assert set(loaded) == set(theta)
    assert all(np.array_equal(loaded[n], theta[n]) and loaded[n].dtype == np.float32 for n in theta)
    assert load_settings(path, {"lr": 1.0, "norm_eps": 1.0, "other": 7.0}) == {"lr": 3e-3, "norm_eps": 1e-3, "other": 7.0}


def test_missing_and_foreign_files_are_refused(tmp_path):
    refused(lambda: um.load_theta(tmp_path / "none.npz"), "none.npz", "no such file")
    for name, data in (("empty", b""), ("text", b"hello world\n" * 99), ("zip", b"PK\x03\x04" + b"\0" * 200)):
        (tmp_path / name).write_bytes(data)
        refused(lambda: um.load_theta(tmp_path / name), str(tmp_path / name))
    np.save(tmp_path / "bare.npy", np.zeros(3))
    refused(lambda: um.load_theta(tmp_path / "bare.npy"), "bare.npy", "not a")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refused(lambda: um.load_theta(tmp_path / "other.npz"), "other.npz", "theta/")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_truncated_file_is_refused(tmp_path, part):
    path, _ = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:int(part * len(data))])
    refused(lambda: um.load_theta(path), "theta.npz", "corrupt or truncated")


def test_damaged_bytes_are_refused_or_harmless(tmp_path):
    """Any byte of the file inverted: the arrays come out as they were, or one line says what is wrong."""
    path, theta = written(tmp_path)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(data), 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1:])
        try:
            loaded = um.load_theta(path)
        except ValueError as error:
            assert "\n" not in str(error) and "theta.npz" in str(error)
        else:
            assert all(np.array_equal(loaded[name], theta[name]) for name in theta)


@pytest.mark.parametrize("name", ["merge", "top_d/unit1/w", "error/w", "readout/zero/pa", "compute_h/unit2/beta"])
def test_incomplete_misshapen_and_nan_arrays_are_named(tmp_path, name):
    path, theta = written(tmp_path)
    without = {n: a for n, a in theta.items() if n != name}
    longer = {**theta, name: np.concatenate([theta[name], theta[name][:1]])}
    flatter = {**theta, name: theta[name][None]}
    nan, inf, whole, wide = ({**theta, name: a.copy()} for a in (theta[name],) * 4)
    nan[name].flat[-1], inf[name].flat[0] = np.nan, np.inf
    whole[name], wide[name] = whole[name].astype(int), wide[name].astype(np.float64)
    for bad, word in ((without, name), (longer, "shape"), (flatter, name), (nan, name), (inf, name),
                      (whole, "float"), (wide, "float"), ({**theta, "extra": theta["merge"]}, "theta/extra")):
        np.savez(path, **{f"theta/{n}": a for n, a in bad.items()})
        refused(lambda: um.load_theta(path), "theta.npz", word)
        if bad is not whole:
            refused(lambda: um.save_theta(tmp_path / "new.npz", bad), word)
    assert not (tmp_path / "new.npz").exists()


def test_pickled_objects_are_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "opened"),)

    path, theta = written(tmp_path)
    np.savez(path, **{f"theta/{n}": a for n, a in theta.items()} | {"theta/merge": np.array([Bomb()], object)})
    refused(lambda: um.load_theta(path), "theta.npz")
    assert not (tmp_path / "opened").exists()


def test_failed_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path, theta = written(tmp_path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            refused(lambda: um.save_theta(path, {n: a + 1 for n, a in theta.items()}), "theta.npz", "No space left")
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["theta.npz"]
    refused(lambda: um.save_theta(path / "below" / "theta.npz", theta), "cannot write")
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [np.array("fast"), np.array(0.0), np.array(np.nan), np.array([1e-3]), np.array(True)])
def test_a_setting_that_is_no_positive_number_is_one_line(tmp_path, value):
    np.savez(tmp_path / "theta.npz", **{"config/lr": value})
    with pytest.raises(InputError, match="config/lr is not a positive number; write the file again") as caught:
        load_settings(tmp_path / "theta.npz", {"lr": 1.0})
    assert "\n" not in str(caught.value)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    for name in ("theta/merge", "config/lr"):
        path, _ = written(tmp_path, lr=0.1)
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in (members | {f"{name}.npy": b"junk"}).items():
                archive.writestr(member, content)
        refused(lambda: um.load_theta(path), "theta.npz", "no array")
