# SPDX-License-Identifier: GPL-2.0-only
"""A SLURM of several virtual nodes on this machine, without accounting, systemd or root's rights.

Everything lies in one folder, listens on loopback where the machine's name resolves to that, and
ends with it: munged with a key of its own, slurmctld, and one slurmd for each node. To try things
by hand:

    python -m tests.cluster.local_slurm ice1:icy ice2:icy warm1:warm

prints what to put into the environment, and runs until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0
PARTITION = "short"

# More CPUs and memory than the machine has are taken at their word (config_overrides); task/none
# leaves processes on all CPUs that there are.
CONFIGURATION = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
{loopback}
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
MinJobAge=1800
KillWait=10
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=UNLIMITED State=UP
"""

# A step that Snakemake's executor starts is told nothing of where the configuration is.
SRUN = """\
#!/bin/sh
SLURM_CONF={configuration} exec {srun} "$@"
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster.

    Attributes:
        folder: of its configuration, state and logs.
        environ: what its clients need in their environment.
    """

    folder: Path
    environ: Mapping[str, str]

    def run(self, *argv: str) -> str:
        """What one of SLURM's programs prints."""
        done = subprocess.run(
            argv, env={**os.environ, **self.environ}, capture_output=True, text=True, check=True
        )
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that it remembers: number, state, node, and the comment that says what for."""
        lines = self.run("squeue", "--noheader", "--states=all", "--format=%i|%T|%N|%k")
        names = ("number", "state", "node", "comment")
        return [dict(zip(names, line.split("|"), strict=True)) for line in lines.splitlines()]


@contextlib.contextmanager
def local_slurm(nodes: Mapping[str, str], cpus: int = 4) -> Iterator[Slurm]:
    """A cluster that ends, with all of its jobs, when this is left.

    Args:
        nodes: name -> its one feature.
        cpus: of each node, as SLURM counts them.
    """
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="kdelta-slurm-", dir="/tmp") as name:
        folder = Path(name)
        for place in ("state", "bin", "tmp", *(f"spool-{node}" for node in nodes)):
            (folder / place).mkdir()
        configuration = folder / "slurm.conf"
        configuration.write_text(_configuration(folder, nodes, cpus))
        srun = folder / "bin" / "srun"
        srun.write_text(SRUN.format(configuration=configuration, srun=shutil.which("srun")))
        srun.chmod(0o755)
        environ = {
            "SLURM_CONF": str(configuration),
            "PATH": f"{srun.parent}:/usr/sbin:{os.environ['PATH']}",
            "TMPDIR": str(folder / "tmp"),
        }
        slurm = Slurm(folder, environ)
        try:
            _start(slurm, nodes)
            yield slurm
        finally:
            _stop(slurm)


def _configuration(folder: Path, nodes: Mapping[str, str], cpus: int) -> str:
    host = socket.gethostname()
    ports = _free_ports(len(nodes) + 1)
    on_loopback = socket.gethostbyname(host).startswith("127.")
    return CONFIGURATION.format(
        folder=folder,
        host=host,
        user=getpass.getuser(),
        ports=ports,
        partition=PARTITION,
        loopback="CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if on_loopback else "",
        nodes="\n".join(
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={cpus} RealMemory=32000 Feature={feature} State=UNKNOWN"
            for (name, feature), port in zip(nodes.items(), ports[1:], strict=True)
        ),
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(slurm: Slurm, nodes: Mapping[str, str]) -> None:
    folder = slurm.folder
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    files = {
        "key-file": "munge.key",
        "socket": "munge.socket",
        "pid-file": "munged.pid",
        "log-file": "munged.log",
        "seed-file": "munge.seed",
    }
    # Forced, since a folder below /tmp is none that it trusts.
    munged = ["munged", "--force", *(f"--{word}={folder / name}" for word, name in files.items())]
    slurm.run(*munged)
    slurm.run("slurmctld")
    for node in nodes:
        slurm.run("slurmd", "-N", node)
    deadline = time.monotonic() + PATIENCE_S
    while slurm.run("sinfo", "--noheader", "--format=%t").split() != ["idle"]:
        if time.monotonic() > deadline:
            logs = "\n".join(log.read_text()[-2000:] for log in sorted(folder.glob("*.log")))
            raise RuntimeError(f"the nodes do not come up:\n{slurm.run('sinfo')}{logs}")
        time.sleep(0.2)


def _stop(slurm: Slurm) -> None:
    """End everything by the files that tell its process, jobs first."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        slurm.run("scancel", f"--user={getpass.getuser()}")
        deadline = time.monotonic() + PATIENCE_S
        while slurm.run("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.2)
    pids = []
    for file in sorted(slurm.folder.glob("*.pid"), reverse=True):  # munged last
        with contextlib.suppress(OSError, ValueError):
            pids.append(int(file.read_text()))
            os.kill(pids[-1], signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)


def main(words: list[str]) -> None:
    """Run a cluster of these nodes, NAME:FEATURE each, until Ctrl-C."""
    nodes = dict(word.split(":") for word in words or ["ice1:icy", "ice2:icy", "warm1:warm"])
    with local_slurm(nodes) as slurm, contextlib.suppress(KeyboardInterrupt):
        for name, value in slurm.environ.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
