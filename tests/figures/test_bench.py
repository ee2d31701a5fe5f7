"""`evaluate.py bench` and `figure roofline`: products are those performed, and the numbers agree with each other."""
import contextlib
import io
import json
import os
from collections import Counter

import pytest

import evaluate
from figures import bench, bench_cases, bench_process, roofline
from ops.errors import InputError
from small_runs import ROOT
from small_scores import refused_command

TINY = dict(batch_size=7, hdims=6, delta=5, top=4, rank=2, sizes=[30, 13, 11, 9], unrolls=2, pairs=2, per_batch=20)


def gflop(products, *blocks):
    """GFLOP of the products, of these blocks or of all."""
    return sum(2e-9 * m * k * n for block, m, k, n in products if not blocks or block in blocks)


@pytest.mark.slow
def test_paper_sizes_cost_what_the_specification_says():
    """About 21 GFLOP for the convolutions of an inner step with its gradient at B = 128, H = 64, [196, 128 x 3, 32]."""
    performed = bench._in_process("products", "paper-3", bench._environment())
    forward = 2 * 128 * 612 * 3 * (45 * 64 + 3 * 64 * 64) / 1e9
    assert gflop(performed["update"], "compute_h") == pytest.approx(forward)
    assert gflop(performed["gradient"], "compute_h") == pytest.approx(3 * 3 * forward)
    assert 20.5 < gflop(performed["gradient"], "compute_h") / 3 < 22
    assert gflop(performed["update"]) < 1.4 * forward  # nearly all of it


def test_the_products_of_the_base_model_are_among_those_recorded():
    performed = bench_process.products(TINY, 0)
    shapes = Counter(tuple(shape) for _, *shape in performed["update"])
    B, sizes = TINY["batch_size"], TINY["sizes"]
    assert all(shapes[B, low, high] >= 1 for low, high in zip(sizes, sizes[1:]))
    assert gflop(performed["gradient"]) > 2 * TINY["unrolls"] * gflop(performed["update"])


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """(standard output, JSON of --json, JSON beside the picture, path of the picture) of a run with a tiny case."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bench_cases.CASES, "tiny", TINY)
        for name in ("LIMIT_BUDGET", "OUR_BUDGET"):
            patch.setattr(bench, name, 0.0)
        patch.setattr(bench, "ROUNDS", 1)
        arguments = ["bench", "--cases", "tiny", "--threads", "1,2", "--parts", "steps", "--json",
                     str(folder / "out.json"), "--picture", str(folder / "p.png")]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert evaluate.main(arguments) == 0
    read = lambda name: json.loads((folder / name).read_text())
    return out.getvalue(), read("out.json"), read("p.json"), folder / "p.png"


def test_the_figure_is_measured_anew_each_time(small_run, tmp_path, monkeypatch):
    seen = []

    def measured(case, threads):
        seen.append((case, threads))
        return [row for row in small_run[1]["rows"] if row["threads"] == threads]

    monkeypatch.setattr(bench, "measure_case", measured)
    for _ in range(2):
        assert evaluate.main(["figure", "roofline", "--quick", "--threads", "1,2", "--folder", str(tmp_path)]) == 0
    assert seen == [("laptop", 1), ("laptop", 2)] * 2 and not (tmp_path / "results").exists()
    assert json.loads((tmp_path / "roofline.json").read_text())["panels"] == small_run[2]["panels"]


def test_rows_for_both_kinds_of_step_and_each_thread_count(small_run):
    rows = small_run[1]["rows"]
    assert [(r["case"], r["threads"], r["what"]) for r in rows] == [
        ("tiny", threads, what) for threads in (1, 2) for what in ("update", "gradient")]
    for row in rows:
        assert row["gflops"] == pytest.approx(row["gflop"] / row["seconds"])
        assert row["fraction"] == pytest.approx(row["gflops"] / row["sgemm_gflops"])
        assert 0 < row["fraction"] < 1.2 and row["peak_mb"] > 20 and row["first_call_s"] > 0


def test_blocks_add_up_to_the_whole(small_run):
    for row in small_run[1]["rows"][1::2]:
        names = [b["block"] for b in row["blocks"]]
        assert {"top_d", "compute_h", "meta_objective"} < set(names)
        assert names[-1] == bench.REST and row["blocks"][-1]["seconds"] > 0
        assert sum(b["seconds"] for b in row["blocks"]) == pytest.approx(row["clocked_s"])
        assert sum(b["gflop"] for b in row["blocks"]) == pytest.approx(row["gflop"])
        assert sum(b["limit_s"] or 0 for b in row["blocks"]) == pytest.approx(row["limit_s"])


def test_the_table_says_what_the_json_says(small_run):
    text, result = small_run[0], small_run[1]
    lines = [line.split() for line in text.splitlines() if line.startswith("tiny ") and "ms per" not in line]
    assert len(lines) == len(result["rows"])
    for found, row in zip(lines, result["rows"]):
        assert found == ["tiny", str(row["threads"]), row["what"], f"{1e3 * row['seconds']:.2f}", f"{row['gflop']:.2f}",
                         f"{row['gflops']:.1f}", f"{row['sgemm_gflops']:.1f}", f"{row['fraction']:.0%}",
                         f"{row['peak_mb']:.0f}", f"{row['first_call_s']:.2f}"]
    found = [line.split()[-4] for line in text.splitlines() if line.startswith("  compute_h ")]
    wanted = [b["seconds"] for r in result["rows"][1::2] for b in r["blocks"] if b["block"] == "compute_h"]
    assert found == [f"{1e3 * seconds:.3f}" for seconds in wanted]


def test_the_picture_shows_every_block_with_its_limit(small_run):
    _, result, numbers, picture = small_run
    assert picture.read_bytes().startswith(b"\x89PNG") and numbers["result"] == result
    axes = roofline.draw(numbers).axes
    assert [a.get_title() for a in axes] == ["tiny, 1 thread", "tiny, 2 threads"]
    for a, panel in zip(axes, numbers["panels"]):
        shown = [t.get_text() for t in a.get_yticklabels()]
        assert shown == [bar["name"] for bar in panel["bars"]]
        assert shown[0] == "whole inner step" and "compute_h" in shown
        assert [patch.get_width() for patch in a.patches] == [bar["ms"] for bar in panel["bars"]]
        limits = [segment[0][0] for segment in a.collections[0].get_segments()]
        assert limits == [bar["limit_ms"] for bar in panel["bars"] if bar["limit_ms"] is not None]


@pytest.mark.parametrize("options, word", [
    (["--cases", "desktop"], "desktop"), (["--cases", ""], "--cases"), (["--threads", "0"], "--threads"),
    (["--threads", ""], "--threads"), (["--threads", "1,two"], "two"), (["--parts", "steps,stop"], "stop"),
    (["--picture", "a.pdf"], ".png"), (["--picture", "a.png", "--parts", "loop"], "steps"),
    (["--json", "a.json", "--picture", "a.png"], "a.json"), (["--threads", "1", "--budget", "2"], "--budget")])
def test_a_bad_option_is_one_line_and_nothing_is_measured(options, word, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "measure", lambda cell: pytest.fail("measured"))
    refused_command(capsys, ["bench", *options], [word])
    assert not any(tmp_path.iterdir())


def test_a_case_that_fails_in_its_process_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(bench_cases.CASES, "tiny", TINY | {"batch_size": -1})
    refused_command(capsys, ["bench", "--cases", "tiny", "--threads", "1", "--parts", "steps"], ["case tiny"])


def record(seconds, data=0.01, segments=4):
    return {"seconds": seconds, "segments": segments, "data_s": data, "unroll_s": 0.09}


def test_the_rate_of_the_loop_leaves_the_start_out_and_needs_enough_meta_steps():
    records = [record(0.0, 5.0), record(0.5, 5.0)] + [record(2.0 + i / 2) for i in range(11)]
    numbers = bench.loop_numbers(records, 2.0)
    assert numbers == {"gradients_per_s": pytest.approx(8.0), "data_share": pytest.approx(0.1),
                       "seconds": pytest.approx(5.0)}
    with pytest.raises(InputError, match="too few meta-steps"):
        bench.loop_numbers([record(0.0), record(9.0), record(9.5)], 2.0)


@pytest.mark.slow
def test_start_is_measured_on_a_real_run(monkeypatch):
    before = set(os.listdir(ROOT))
    assert 0.1 < bench.start_seconds() < bench.START_SECONDS
    assert set(os.listdir(ROOT)) == before  # the run was made elsewhere
