"""`--pool` with Ray's pool on two nodes of Ray, one lost on the way and another one added."""
import os

import pytest

from small_runs import assert_same_run, finish, flags, metrics, start, steps_logged, train, wait_until

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed, and need not be")
import ray  # noqa: E402
import ray_pool  # noqa: E402
STEPS = 200


@pytest.fixture
def cluster():
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    ray.init(address=made.address)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_lost_and_another_one_added_change_no_bit(cluster, tmp_path):
    settings = flags(workers=2, steps=STEPS, validate_steps=0)
    train(tmp_path / "local", *settings)
    cluster.add_node(num_cpus=1)
    lost = cluster.add_node(num_cpus=1)
    process = start(tmp_path / "ray", *settings, "--pool", "ray_pool:Pool",
                    env=os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": os.path.dirname(ray_pool.__file__)})
    wait_until(lambda: steps_logged(tmp_path / "ray") > STEPS // 4, 120, "a quarter of the run")
    wait_until(lambda: not ray.available_resources().get("CPU"), 120, "a process on each node")
    cluster.remove_node(lost, allow_graceful=False)
    wait_until(lambda: steps_logged(tmp_path / "ray") > STEPS // 2, 120, "a half of it, on one node")
    cluster.add_node(num_cpus=1)
    finish(process)
    assert max(record["restarts"] for record in metrics(tmp_path / "ray")) >= 1
    assert_same_run(tmp_path / "local", tmp_path / "ray")
