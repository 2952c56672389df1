"""A Ray cluster of two hosts on this machine, for bench/sweeps.py and the tests; needs root.

Each host is a network namespace with a host name and addresses of its own. Between them are two
links: one for Ray, and one over which the worker reaches the tracking server on the head.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).resolve().parent.parent
HEAD, WORKER = "head", "worker"
HOSTS = {HEAD: 1, WORKER: 2}  # the last number of their addresses
RAY, STORE = "10.87.1", "10.87.2"  # the networks of the two links
RAY_PORT, STORE_PORT = 6379, 5000
START_TIMEOUT = 120.0  # seconds
VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",  # a dead node is noticed in 5 s instead of 30
}


@dataclass
class TwoNodes:
    """The cluster; its processes write into `folder`, which both hosts see."""

    folder: Path
    ray: str  # the folder of Ray's sockets, whose paths may have 107 characters at most
    environment: dict[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def tracking_uri(self) -> str:
        """The address of the tracking server, on the head."""
        return f"http://{STORE}.{HOSTS[HEAD]}:{STORE_PORT}"

    def on(self, host: str, command: Sequence[str], log: str) -> subprocess.Popen[str]:
        """Begin a command on a host; what it prints goes into a file."""
        inside = ["ip", "netns", "exec", _namespace(host), "unshare", "--uts", "sh", "-c"]
        inside += [f'hostname {host} && exec "$@"', "sh", *command]
        with (self.folder / log).open("w") as output:
            process = subprocess.Popen(
                inside,
                cwd=PROJECT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        self.processes.append(process)
        return process

    def train(self, *overrides: str, log: str = "train.log") -> subprocess.Popen[str]:
        """Begin a sweep on the cluster, by a command that is typed on the head."""
        cluster = f"hydra.launcher.ray.init.address={RAY}.{HOSTS[HEAD]}:{RAY_PORT}"
        command = [sys.executable, "train.py", "-m", "hydra/launcher=ray", cluster]
        command += [f"tracking.uri={self.tracking_uri}", *overrides]
        return self.on(HEAD, command, log)

    def begin_node(self, host: str, processors: int = 1) -> None:
        """Let a host join the cluster, and wait until it has."""
        options = f"--address={RAY}.{HOSTS[HEAD]}:{RAY_PORT}"
        if host == HEAD:
            options = f"--head --port={RAY_PORT} --include-dashboard=false --temp-dir={self.ray}"
        command = [*_tool("ray"), "start", "--block", *options.split()]
        command += [f"--node-ip-address={RAY}.{HOSTS[host]}", f"--num-cpus={processors}"]
        command += ["--object-store-memory=100000000", "--disable-usage-stats"]
        process = self.on(host, command, f"{host}.log")
        _wait(lambda: "Ray runtime started" in self.log(f"{host}.log"), process, host)

    def begin_server(self) -> None:
        """Start the tracking server on the head, and wait until it answers."""
        command = [*_tool("mlflow"), "server", "--host", "0.0.0.0", "--port", str(STORE_PORT)]
        command += ["--workers", "1", "--allowed-hosts", "*"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", f"{self.folder}/artifacts"]
        process = self.on(HEAD, command, "server.log")
        _wait(lambda: "startup complete" in self.log("server.log"), process, "server")

    def log(self, name: str) -> str:
        """Return what a command printed."""
        return (self.folder / name).read_text(errors="replace")

    def kill(self, host: str) -> int:
        """Kill every process of a host, as a loss of power does; return how many there were."""
        command = ["ip", "netns", "pids", _namespace(host)]
        killed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        for number in killed:
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        return len(killed)

    def link(self, state: str) -> None:
        """Cut ("down") or restore ("up") the worker's link to the tracking server."""
        _ip("-n", _namespace(WORKER), "link", "set", "store", state)


@contextmanager
def two_nodes(folder: Path) -> Iterator[TwoNodes]:
    """Set up both hosts, Ray on them and the tracking server; remove it all in the end."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with ExitStack() as cleanup:
        ray = cleanup.enter_context(TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        variables = inherited | VARIABLES | {"RAY_AUTH_TOKEN_PATH": str(token)}
        cluster = TwoNodes(folder, ray, variables)
        for host in HOSTS:
            _ip("netns", "add", _namespace(host))
            cleanup.callback(_ip, "netns", "delete", _namespace(host))
            cleanup.callback(cluster.kill, host)
            _ip("-n", _namespace(host), "link", "set", "lo", "up")
        _link_hosts("ray", RAY)
        _link_hosts("store", STORE)
        cluster.begin_server()
        for host in HOSTS:
            cluster.begin_node(host)
        yield cluster


def _link_hosts(name: str, network: str) -> None:
    ends = {host: f"name {name} netns {_namespace(host)}".split() for host in HOSTS}
    _ip("link", "add", *ends[HEAD], "type", "veth", "peer", *ends[WORKER])
    for host, number in HOSTS.items():
        inside = ("-n", _namespace(host))
        _ip(*inside, "address", "add", f"{network}.{number}/24", "dev", name)
        _ip(*inside, "link", "set", name, "up")


def _namespace(host: str) -> str:
    return f"fmnist-{os.getpid()}-{host}"


def _tool(name: str) -> list[str]:
    """Return how to run a command of this environment."""
    return [sys.executable, str(Path(sys.executable).with_name(name))]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _wait(ready: Callable[[], bool], process: subprocess.Popen[str], name: str) -> None:
    until = time.monotonic() + START_TIMEOUT
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            raise TimeoutError(f"{name} does not start")
        time.sleep(0.1)
