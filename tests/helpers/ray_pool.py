"""Ray's pool whose processes take a processor each, so that nodes of one processor have one each."""
import functools

from ray.util import multiprocessing

Pool = functools.partial(multiprocessing.Pool, ray_remote_args={"num_cpus": 1})
