"""Ray's own cluster of two nodes on one machine, in a process of its own.

Ray ends a process that has talked to a cluster, a minute after that cluster has ended.
"""

import json
import subprocess
import sys
from contextlib import contextmanager

from ray.cluster_utils import Cluster

from tests.helpers.checkout import REPOSITORY


class TwoNodes:
    """The cluster, as seen from outside.

    Attributes:
        address: of the cluster.
    """

    def __init__(self, process):
        self._process = process
        self.address = self._next_line()

    def lose_second_node(self):
        """Kill all processes of the second node; returns once they have ended."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._next_line() == "lost"

    def _next_line(self):
        line = self._process.stdout.readline()
        assert line, "the cluster ended"
        return line.strip()


@contextmanager
def two_nodes(environment, system_config):
    """Run the cluster; its last process has ended when this block has."""
    command = [sys.executable, "-m", "tests.helpers.two_nodes", json.dumps(system_config)]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield TwoNodes(process)
        finally:
            process.communicate(timeout=60)


def main():
    """Print the address, lose the second node at a line of input, and end where that ends."""
    arguments = {
        "num_cpus": 1,
        "include_dashboard": False,
        "_system_config": json.loads(sys.argv[1]),
    }
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    try:
        second = cluster.add_node(num_cpus=1)
        print(cluster.address, flush=True)
        if sys.stdin.readline():
            cluster.remove_node(second, allow_graceful=False)
            print("lost", flush=True)
            sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
