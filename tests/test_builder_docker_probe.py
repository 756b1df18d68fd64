"""A pipeline that tries to get out: every attempt fails in the sandbox, and many succeed where there are no walls."""

# ruff: noqa: F811  # `make` is a fixture

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contained import TASK, failure, make, ours, quiet, read  # noqa: F401  # a fixture
from coralord_lightning.builder.runners.container import PIDS
from coralord_lightning.builder.runners.engine import NAME_PREFIX, connect, ownership_labels
from coralord_lightning.errors import RunnerError
from coralord_lightning.spec.plan import Limits

pytestmark = pytest.mark.docker

HERE = Path(__file__).parent
SCRIPTS = ("container_probe.py", "container_probe_kernel.py")
CAPABILITIES = ["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW", "MKNOD", "SYS_CHROOT", "SYSLOG", "IPC_LOCK"]
SECRET = "coral-canary-7d1f"


@pytest.fixture
def target(tmp_path: Path, docker_config, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Things on the host that must not be reached."""
    canary, neighbour = tmp_path / "canary", tmp_path / "out-of-another"
    canary.write_text(SECRET)
    canary.chmod(0o644)
    neighbour.mkdir()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0coral-probe-{os.getpid()}")
        abstract.listen()
        yield {
            "canary": str(canary), "neighbour": str(neighbour), "secret": SECRET, "engine": engine, "out": "/out",
            "port": listener.getsockname()[1], "abstract": f"coral-probe-{os.getpid()}", "bridge": "172.17.0.1",
            "pid": os.getpid(),
        }  # fmt: skip


def prober(make, target, **changes):
    sandbox = make("", file="container_probe.py", params=target, **changes)
    for name in SCRIPTS:
        shutil.copyfile(HERE / name, sandbox.code_dir / name)
    return sandbox


def test_no_attempt_to_get_out_succeeds(docker_config, make, target):
    sandbox = prober(make, target)
    with quiet(docker_config).open(sandbox) as session:
        session.run(TASK)
    rows = read(sandbox).to_pylist()
    assert len(rows) >= 60
    assert [row for row in rows if row["escaped"]] == []


def test_with_a_network_only_the_network_is_open(docker_config, make, target):
    sandbox = prober(make, target, network=True)
    with quiet(docker_config).open(sandbox) as session:
        session.run(TASK)
        isolation = session.isolation
    assert (isolation["network"], isolation["hermetic"]) == ("bridge", False)
    escaped = {row["name"] for row in read(sandbox).to_pylist() if row["escaped"]}
    assert "have a network interface" in escaped
    words = ("network", "internet", "bridge", "datagram", "name", "metadata")
    assert {name for name in escaped if not any(word in name for word in words)} == set()
    assert "connect to a listener on the host's loopback" not in escaped
    assert "change the network through netlink" not in escaped


@pytest.mark.skipif(os.geteuid() != 0, reason="a container without walls is for throw-away machines, run by root")
def test_the_same_attempts_succeed_in_a_container_without_walls(docker_config, default_image, target, tmp_path):
    socket_dir = str(Path(target["engine"]).parent)
    with connect(docker_config) as client:
        container = client.containers.create(
            default_image,
            entrypoint=["python3", "/probe/container_probe.py", json.dumps(target | {"pid": 1})],
            name=f"{NAME_PREFIX}{os.urandom(6).hex()}",
            labels=ownership_labels(),
            cap_add=CAPABILITIES,
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            devices=["/dev/kmsg"],
            network_mode="host",
            user="0:0",
            init=True,
            environment={"AWS_SECRET_ACCESS_KEY": SECRET},
            volumes=[
                f"{HERE}:/probe:ro",
                f"{tmp_path}:{tmp_path}",
                f"{tmp_path / 'out'}:/out",
                f"{socket_dir}:{socket_dir}",
            ],
        )
        try:
            container.start()
            container.wait(timeout=240)
            rows = json.loads(container.logs(stdout=True, stderr=False))
        finally:
            container.remove(force=True, v=True)
    escaped = {row["name"] for row in rows if row["escaped"]}
    assert len(escaped) >= 40, rows
    assert escaped >= {
        "write into /etc", "read a file of the host", "see a secret of the parent's environment", "chroot",
        "connect to a listener on the host's loopback", "open a raw socket", "mount a file system", "become root",
        "make a block device", "reach the engine's socket", "run a program from /tmp", "have a capability",
        "put a key into the kernel's keyring", "load a program into the kernel (bpf)", "set the host's name",
        "run without a system call filter", "make a user namespace", "change the network through netlink",
        "trace a process of the host", "have a network interface", "read another lane's output directory",
    }  # fmt: skip


def test_a_fork_bomb_is_bounded(docker_config, make):
    code = """
        import os, time
        import pyarrow as pa
        def run(batch):
            children, reason = [], None
            while reason is None and len(children) < 5000:
                try:
                    pid = os.fork()
                except OSError as error:
                    reason = type(error).__name__
                    break
                if pid == 0:
                    time.sleep(600)
                    os._exit(0)
                children.append(pid)
            for pid in children:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            return pa.table({"children": [len(children)], "reason": [reason]})
    """
    sandbox = make(code)
    with quiet(docker_config).open(sandbox) as session:
        session.run(TASK)
    (row,) = read(sandbox).to_pylist()
    assert row["reason"] == "BlockingIOError"
    assert row["children"] < PIDS


def test_a_wild_fork_bomb_ends_at_the_time_limit(docker_config, make):
    code = """
        import os
        def run(batch):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
    """
    error = failure(docker_config, make(code, limits=Limits(timeout_s=5, cpus=0.5, memory_bytes=512 << 20)))
    assert isinstance(error, RunnerError)
    assert ours(docker_config) == []


@pytest.mark.parametrize("link", ["/etc/passwd", "/proc/1/environ", "../canary", "/in/a"])
def test_a_link_in_place_of_the_output_is_never_followed(link, docker_config, make, target):
    sandbox = make(
        f"import os\ndef run(batch):\n    yield batch\n    os.unlink('/out/b')\n    os.symlink({link!r}, '/out/b')\n"
    )
    error = failure(docker_config, sandbox)
    assert error.facts["got"] == "a symbolic link"
    assert SECRET not in str(error)


def test_what_an_image_declares_opens_no_way(docker_config, make, default_image, target, tmp_path):
    """Entrypoint, user, directory, health check and volumes of a hostile image are overruled."""
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "Dockerfile").write_text(
        f"FROM {default_image}\nUSER root\nRUN mkdir -m 777 /data /srv/deep && touch /data/kept\n"
        "VOLUME /data /srv/deep /out /tmp /dev/shm\nUSER root\nWORKDIR /data\nENV HTTP_PROXY=http://x\n"
        "HEALTHCHECK --interval=1s CMD touch /data/x\nEXPOSE 80\nSTOPSIGNAL SIGWINCH\n"
        'ENTRYPOINT ["sh", "-c", "exit 9"]\nCMD ["x"]\nLABEL coralord.lightning.pid=1 coralord.lightning.host=x\n'
    )
    code = """
        import os
        import pyarrow as pa
        def run(batch):
            def can(path):
                try:
                    open(path + "/x", "w").close()
                    os.unlink(path + "/x")
                except OSError:
                    return False
                return True
            kinds = {line.split()[1]: line.split()[2] for line in open("/proc/mounts")}
            places = [path for path in ("/data", "/srv/deep", "/", "/out", "/tmp", "/dev/shm") if can(path)]
            memory = [path for path in ("/tmp", "/dev/shm") if kinds[path] == "tmpfs"]
            return pa.table({"uid": [os.getuid()], "cwd": [os.getcwd()], "places": [places], "memory": [memory]})
    """
    with connect(docker_config) as client:
        image, _ = client.images.build(path=str(tmp_path / "image"), rm=True)
        volumes = {item.name for item in client.volumes.list()}
        try:
            sandbox = make(code, image=image.id)
            with quiet(docker_config).open(sandbox) as session:
                session.run(TASK)
                (container,) = ours(docker_config)
                state = client.api.inspect_container(container)
                assert [item["Destination"] for item in state["Mounts"] if item["RW"]] == ["/out"]
                assert "Health" not in state["State"]
            assert read(sandbox).to_pylist() == [
                {"uid": 65534, "cwd": "/code", "places": ["/out", "/tmp", "/dev/shm"], "memory": ["/tmp", "/dev/shm"]}
            ]
            mine = {item.name for item in client.volumes.list()} - volumes
            assert not [name for name in mine if image.id in str(client.volumes.get(name).attrs)]
        finally:
            client.images.remove(image.id, force=True)


def test_proxies_of_the_engines_configuration_stay_outside(docker_config, make, monkeypatch, tmp_path):
    (tmp_path / "docker").mkdir()
    settings = {"proxies": {"default": {"httpProxy": f"http://user:{SECRET}@127.0.0.1:1"}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(settings))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    code = "import os\nimport pyarrow as pa\ndef run(batch):\n    return pa.table({'seen': [str(dict(os.environ))]})\n"
    sandbox = make(code)
    host = docker_config.docker_host or os.environ.get("DOCKER_HOST")
    with quiet(replace(docker_config, docker_host=host)).open(sandbox) as session:
        session.run(TASK)
    assert SECRET not in str(read(sandbox).to_pylist())
