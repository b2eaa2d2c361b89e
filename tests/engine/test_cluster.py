from __future__ import annotations

from datetime import timedelta

import pytest

from drivetrain.engine._cluster import Cluster, find_cluster, first_host, group_machines, join
from drivetrain.errors import LaunchError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}


def test_nothing_is_joined_without_the_variables():
    assert find_cluster({}) is None
    assert find_cluster({"RANK": "0", "WORLD_SIZE": "2"}) is None  # what some job systems set on every machine
    assert find_cluster({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None  # an interactive shell
    assert find_cluster({**SLURM, "SLURM_STEP_NUM_TASKS": "0"}) is None
    assert find_cluster({k: v for k, v in SLURM.items() if "STEP" not in k}) is None  # a batch script


def test_torchrun():
    assert find_cluster(TORCHRUN) == Cluster("torchrun", 3, 4, 1, 2)
    assert find_cluster(TORCHRUN, 2) == Cluster("torchrun", 3, 4, 1, 2)  # --num-gpus as on one machine


def test_torchrun_wins_over_the_request_and_says_so(caplog):
    assert find_cluster(TORCHRUN, 3).world_size == 4
    assert "3 processes were asked for; torchrun started 4" in caplog.text


@pytest.mark.parametrize("change", [{"RANK": "4"}, {"RANK": "x"}, {"LOCAL_RANK": "2"}, {"LOCAL_WORLD_SIZE": "9"}])
def test_torchruns_contradictions_are_errors(change):
    with pytest.raises(LaunchError, match="RANK"):
        find_cluster({**TORCHRUN, **change})


def test_slurm():
    environ = {**SLURM, "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    found = find_cluster(environ)
    assert (found.kind, found.rank, found.world_size, found.local_rank, found.local_size) == ("slurm", 5, 8, 1, 4)
    assert found.address[0] == "gpu07"
    assert found.address == find_cluster({**environ, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).address
    other = find_cluster({**environ, "SLURM_JOB_ID": "78"}).address
    assert other != found.address  # two jobs on one machine do not meet
    assert find_cluster(environ, 4, 2) == found
    assert find_cluster(environ, 1, 1, "tcp://10.1.1.1:333").address == ("10.1.1.1", 333)


def test_slurm_on_one_machine_stays_on_it():
    environ = {**SLURM, "SLURM_STEP_NUM_NODES": "1", "SLURM_LOCALID": "5"}
    assert find_cluster(environ).address[0] == "127.0.0.1"


def test_one_launcher_per_machine_under_slurm_starts_its_own():
    environ = {**SLURM, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    assert find_cluster(environ, 4, 2, "tcp://gpu07:29500") is None


@pytest.mark.parametrize(
    ("change", "request_", "text"),
    [
        ({}, (3, 1), "srun started 8 processes and 1 x 3 were asked for"),
        ({"SLURM_LOCALID": "0"}, (1, 1), "distribution=block"),
        ({"SLURM_STEP_NUM_TASKS": "9"}, (1, 1), "unevenly"),
        ({"SLURM_PROCID": "x"}, (1, 1), "no number"),
        ({"SLURM_STEP_NUM_TASKS": "x"}, (1, 1), "no number"),
        ({"MASTER_PORT": "x"}, (1, 1), "MASTER_PORT is 'x'"),
        ({"SLURM_STEP_NODELIST": ""}, (1, 1), "dist-url"),
    ],
)
def test_slurms_contradictions_are_errors(change, request_, text):
    with pytest.raises(LaunchError, match=text):
        find_cluster({**SLURM, **change}, *request_)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu03", "gpu03"),
        ("gpu[03-05,9],cpu1", "gpu03"),
        ("a1,b2", "a1"),
        ("n[9]", "n9"),
        ("r1-n[001-128]-ib,x", "r1-n001-ib"),
        ("r[1-2]n[07-9],x", "r1n07"),
        ("", ""),
    ],
)
def test_the_first_machine_in_slurms_notation(nodes, host):
    assert first_host(nodes) == host


def test_joining_one_process_is_a_plain_call():
    assert join(Cluster("torchrun", 0, 1, 0, 1), lambda a, b: a + b, (1, 2), timedelta(seconds=1)) == 3


def test_joining_several_makes_their_groups_and_leaves_them(monkeypatch):
    events = []

    def noted(name):
        return lambda *args, **kwargs: events.append((name, *args))

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.distributed.init_process_group", noted("init"))
    monkeypatch.setattr("torch.distributed.destroy_process_group", noted("leave"))
    monkeypatch.setattr("drivetrain.runtime.comm.create_local_process_group", noted("local"))
    monkeypatch.setattr("drivetrain.runtime.comm.synchronize", noted("meet"))
    join(Cluster("torchrun", 3, 4, 1, 2), lambda *args: events.append(("run", *args)), (5,), timedelta(seconds=1))
    assert events == [("init", "gloo"), ("local", 2), ("meet",), ("run", 5), ("leave",)]


def test_machines_with_different_numbers_of_processes_are_refused(monkeypatch):
    monkeypatch.setattr("drivetrain.runtime.comm.all_gather", lambda own: [own, own, 4, 4, 4, 4])
    monkeypatch.setattr("drivetrain.runtime.comm.create_local_process_group", lambda count: pytest.fail("a group"))
    with pytest.raises(LaunchError, match=r"on the machines \(2, 4\): start the same number"):
        group_machines(2)
