from __future__ import annotations

import os
import signal
import socket
from datetime import timedelta

import pytest
import torch.distributed as dist

from drivetrain.engine import _agent
from drivetrain.errors import LaunchError, TrainingError

SHORT = timedelta(seconds=5)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listening_addresses(port):
    """Who listens at a port, from the kernel's tables."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            rows = [line.split() for line in lines][1:]
        found += [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
    return found


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads Linux's tables")
def test_the_store_listens_at_its_address_alone():
    port = free_port()
    server = _agent.tcp_store("127.0.0.1", port, serves=True, timeout=SHORT)
    assert listening_addresses(port) == ["0100007F"]
    client = _agent.tcp_store("127.0.0.1", port, serves=False, timeout=SHORT)
    client.set("a", "b")
    assert server.get("a") == b"b"


def test_a_taken_port_and_a_silent_host_are_launch_errors():
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(LaunchError, match=r"cannot listen at tcp://127\.0\.0\.1:\d+ .*--dist-url"):
        _agent.tcp_store("127.0.0.1", taken.getsockname()[1], serves=True, timeout=SHORT)
    with pytest.raises(LaunchError, match=r"got no answer within 0:00:01"):
        _agent.tcp_store("127.0.0.1", free_port(), serves=False, timeout=timedelta(seconds=1))
    with pytest.raises(LaunchError, match="cannot listen"):
        _agent.tcp_store("no such host.invalid", 1234, serves=True, timeout=SHORT)


def test_an_address_of_another_machine_falls_back_with_a_warning(caplog):
    with _agent._listen("203.0.113.7", 0) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
    assert "listening at all" in caplog.text


def test_a_public_address_is_warned_of(caplog):
    with _agent._listen("8.8.8.8", 0):
        pass
    assert "public address 8.8.8.8" in caplog.text


def test_loopback_is_recognised():
    assert all(map(_agent._is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(_agent._is_loopback, ["10.0.0.1", "gpu07", "0.0.0.0"]))


@pytest.fixture
def meetings(tmp_path):
    """Two machines that share a store."""
    store = dist.HashStore()
    result = []
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
        result.append(_agent._Meeting(store, rank, 2, tmp_path / str(rank)))
    return result


def test_machines_keep_their_numbers(meetings):
    infos = [meeting.next_rendezvous() for meeting in meetings]
    assert [(info.rank, info.world_size) for info in infos] == [(0, 2), (1, 2)]
    infos[0].store.set("x", "1")
    assert infos[1].store.get("x") == b"1"


def test_a_restart_on_one_machine_calls_the_other_and_counts_once(meetings, tmp_path):
    first, second = meetings
    for meeting in meetings:
        meeting.next_rendezvous()
        assert meeting.num_nodes_waiting() == 0
    first.next_rendezvous()
    assert second.num_nodes_waiting() == 1
    second.next_rendezvous()
    assert [m.attempt for m in meetings] == [1, 1]
    assert [m.num_nodes_waiting() for m in meetings] == [0, 0]
    for meeting in meetings:  # both notice the next failure by themselves
        meeting.next_rendezvous()
    assert [m.attempt for m in meetings] == [2, 2]
    assert (tmp_path / "1" / "attempt").read_text() == "2"


def test_giving_up_reaches_the_other_machine(meetings):
    first, second = meetings
    for meeting in meetings:
        meeting.next_rendezvous()
    second.leave(failed=True)
    with pytest.raises(TrainingError, match="machine 1 gave up"):
        first.num_nodes_waiting()
    first.leave(failed=True)  # returns at once: the other has left
    with pytest.raises(TrainingError, match="machine 1 gave up"):
        first.num_nodes_waiting()


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with _agent._signal_handlers_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigusr1_is_passed_on_unless_it_means_something_else(monkeypatch):
    variable = "TORCHELASTIC_SIGNALS_TO_HANDLE"
    monkeypatch.delenv(variable, raising=False)
    with _agent._signal_handlers_kept():
        assert "SIGUSR1" in os.environ[variable].split(",")
    assert variable not in os.environ
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with _agent._signal_handlers_kept():
            assert "SIGUSR1" not in os.environ[variable] and "SIGTERM" in os.environ[variable]
    finally:
        signal.signal(signal.SIGUSR1, before)
    monkeypatch.setenv(variable, "SIGTERM")  # as the user wants it
    with _agent._signal_handlers_kept():
        assert os.environ[variable] == "SIGTERM"
    assert os.environ[variable] == "SIGTERM"
