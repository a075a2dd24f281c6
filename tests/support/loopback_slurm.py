"""A real Slurm on this machine for a test: munged, slurmctld and slurmd of Debian's packages, on loopback alone.

One node, two processors, no accounting; partition `low` gives way to `high`. Its daemons are children of the test that
started it, and end with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

# What installs it; `.ci/run` says so too.
INSTALL = "apt-get install --no-install-recommends slurm-wlm munge"
_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/{task}
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters={select}
ReturnToService=2
MinJobAge={min_job_age_s}
FirstJobId={controller}
KillWait=5
InactiveLimit=0
MessageTimeout=10
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
DefMemPerCPU=500
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PreemptMode=OFF State=UP
PartitionName=low Nodes=ALL MaxTime=60 PriorityTier=1 State=UP
PartitionName=high Nodes=ALL MaxTime=60 PriorityTier=9 PreemptMode=OFF State=UP
"""


_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP_CONF = f"""\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint={_CGROUPS}
ConstrainRAMSpace=yes
AllowedSwapSpace=0
"""


def why_no_memory_limit() -> str:
    """Why no job here can be held to its memory; "" when it can be."""
    try:
        (probe := _CGROUPS / "memory" / f"km_probe_{os.getpid()}").mkdir()
        probe.rmdir()
    except OSError as error:
        return f"no memory control groups of version 1 that this process may make: {error}"
    return ""


def why_not() -> str:
    """Why there can be no Slurm here; "" when there can be."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"no Slurm on this machine ({', '.join(missing)} missing): {INSTALL}"
    return "" if os.getuid() == 0 else "Slurm's daemons start jobs as root alone"


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass
class LoopbackSlurm:
    """A Slurm that `start` starts; `conf` is what SLURM_CONF has to name.

    Attributes:
        min_job_age_s: seconds after its end for which it knows a job.
        cpus: of its node, as it believes; a job has one where it asks for no other number.
        limits_memory: what uses more memory than its job has asked for is killed; see `why_no_memory_limit`.
    """

    min_job_age_s: int = 300
    cpus: int = 2
    limits_memory: bool = False
    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="km_slurm_")))
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def host(self) -> str:
        """The name of its node."""
        return socket.gethostname().partition(".")[0]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": _PATH}

    def start(self) -> None:
        for folder in ("state", "spool"):
            (self.root / folder).mkdir()
        self.root.chmod(0o755)
        (self.root / "munge.key").write_bytes(os.urandom(128))
        (self.root / "munge.key").chmod(0o600)
        controller, node = _free_ports(2)
        self.conf.write_text(
            _CONF.format(
                host=self.host,
                controller=controller,
                node=node,
                root=self.root,
                min_job_age_s=self.min_job_age_s,
                cpus=self.cpus,
                memory=1000 * self.cpus,
                select="CR_Core_Memory" if self.limits_memory else "CR_Core",
                task="cgroup" if self.limits_memory else "none",
            )
        )
        files = [f"--{name}={self.root}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file")]
        files += [f"--key-file={self.root}/munge.key", f"--seed-file={self.root}/munge.seed"]
        if self.limits_memory:
            (self.root / "cgroup.conf").write_text(_CGROUP_CONF)
        self._launch("munged", "--foreground", "--force", *files)
        _until(lambda: (self.root / "munge.socket").exists(), "munged")
        self.controller_up()
        self.node_up()
        _until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), "a node that is idle")

    def controller_up(self) -> None:
        self._launch("slurmctld", "-D")

    def controller_down(self) -> None:
        self._end("slurmctld")

    def controller_hangs(self) -> None:
        """It takes connections, and answers nothing until `controller_answers`."""
        self._daemons["slurmctld"].send_signal(signal.SIGSTOP)

    def controller_answers(self) -> None:
        self._daemons["slurmctld"].send_signal(signal.SIGCONT)

    def node_up(self) -> None:
        self._launch("slurmd", "-D")

    def node_down(self) -> None:
        """End slurmd alone; what it started goes on."""
        self._end("slurmd")

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints; "" while the controller does not answer."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return self.ask("squeue", "-h", "-o", "%i").split()

    def kill(self, job: str) -> None:
        """All its processes at once, as where its node fails: `scancel` would leave its program the time to save."""
        stopped: set[int] = set()
        while found := self._pids(job) - stopped:  # one may have started another meanwhile
            for pid in found:
                _signal(pid, signal.SIGSTOP)
            stopped |= found
        for pid in stopped:
            _signal(pid, signal.SIGKILL)

    def _pids(self, job: str) -> set[int]:
        listed = self.ask("scontrol", "listpids", job).splitlines()[1:]
        return {int(word) for word in (line.split()[0] for line in listed) if word.isdigit()}

    def stop(self) -> None:
        for job in self.jobs() if self._daemons.get("slurmctld") else ():
            self.ask("scancel", "--full", "-s", "KILL", job)
            self.ask("scancel", job)
        deadline = time.monotonic() + 20.0
        while self._daemons.get("slurmctld") and self.jobs() and time.monotonic() < deadline:
            time.sleep(0.2)
        for name in list(self._daemons):
            self._end(name)
        shutil.rmtree(self.root, ignore_errors=True)

    def _launch(self, name: str, *arguments: str) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            command = [shutil.which(name, path=_PATH) or name, *arguments]
            self._daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _end(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _until(is_so, what: str, within_s: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {within_s:.0f} s")
        time.sleep(0.1)
