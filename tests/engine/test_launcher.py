from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

from drivetrain.engine.launcher import launch
from drivetrain.errors import CheckpointError, LaunchError, TrainingError

ROOT = Path(__file__).resolve().parents[2]

# A module that the started processes import; a test file would bring pytest into each of them.
JOBS = '''
import os, sys, time
from pathlib import Path
from drivetrain.errors import CheckpointError
from drivetrain.runtime import comm

def ranks(extra=None):
    mine = [comm.get_rank(), comm.get_local_rank(), comm.get_local_size(), comm.get_world_size(), os.getpid()]
    return [row for row in comm.all_gather(mine)] + [extra]

def wait_after(action):
    """One rank acts; the others wait for it at a barrier, then for two minutes, and tell if nobody ended them."""
    if comm.get_rank() == comm.get_world_size() - 1:
        action()
    comm.synchronize()
    time.sleep(120)
    Path(__file__).with_name("not_ended").touch()

def broken(): wait_after(lambda: [][3])
def killed(): wait_after(lambda: os.kill(os.getpid(), 9))
def refused(): wait_after(lambda: (_ for _ in ()).throw(CheckpointError("w.pth is bad")))
def preempted(): wait_after(lambda: sys.exit(75))

def stubborn():
    """Rank 1 fails; rank 0 does not notice, and does not let itself be ended."""
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    comm.synchronize()
    if comm.get_rank() == 1:
        raise ValueError("here it is")
    time.sleep(60)

def aborts_at_exit():
    """The interpreter's end goes wrong, as with threads of a library that it cannot join."""
    import atexit
    atexit.register(os.abort)
    return comm.all_gather(comm.get_rank())

def silent(): wait_after(lambda: os._exit(3))

def saves_when_asked(folder):
    import signal
    def save(number, frame):
        (Path(folder) / f"saved{comm.get_rank()}").touch()
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
    signal.signal(signal.SIGUSR1, save)
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

def counts_interrupts(folder):
    """Ends a second after the first one."""
    import signal
    count = []
    signal.signal(signal.SIGINT, lambda number, frame: count.append(number))
    (Path(folder) / str(os.getpid())).touch()
    end = time.monotonic() + 60
    while not count and time.monotonic() < end:
        time.sleep(0.05)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        time.sleep(0.05)
    (Path(folder) / f"seen{len(count)}-{comm.get_rank()}").touch()
    sys.exit(75)

def flaky(folder):
    (Path(folder) / f"{comm.get_rank()}-{os.getpid()}").touch()
    comm.synchronize()
    if comm.get_rank() == 1 and len(list(Path(folder).iterdir())) == 2:
        os.kill(os.getpid(), 9)
    comm.synchronize()
    return len(list(Path(folder).iterdir()))

def wait(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

def listening():
    """Addresses, in the kernel's notation, at which the processes of this training listen."""
    comm.synchronize()
    descriptors = [path for path in Path("/proc/self/fd").iterdir() if path.is_socket()]
    own = {os.readlink(path) for path in descriptors}
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [line.split() for line in open(table)][1:]
        found += [r[1].split(":")[0] for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in own]
    everybody = comm.all_gather(found)
    comm.synchronize()
    return everybody
'''


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """The module of jobs; no GPU is used, so that each rank is a process on the CPU."""
    name = "launch_jobs"
    (tmp_path / f"{name}.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sys.modules.pop(name, None)
    return __import__(name)


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# ---- one process


@pytest.fixture
def others():
    """Processes of other tests that are still there, such as the workers of a loader not yet collected."""
    return set(multiprocessing.active_children())


def test_one_process_is_a_plain_call():
    here = []
    assert launch(lambda a, b: here.append(os.getpid()) or a + b, 1, args=(1, 2)) == 3
    assert launch(lambda: 4, 0) == 4
    assert here == [os.getpid()]


def test_its_error_comes_through_unchanged():
    error = ZeroDivisionError()

    def fail():
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        launch(fail, 1)
    assert caught.value is error


def test_it_joins_what_the_environment_describes(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert launch(os.getpid, 2) == os.getpid()  # one process was started: it does not start two


# ---- several processes


def test_two_processes_return_rank_0s_value(jobs, others):
    before = signal.getsignal(signal.SIGINT), set(threading.enumerate())
    *rows, extra = launch(jobs.ranks, 2, dist_url="auto", args=({"a": (1,)},))
    assert [row[:4] for row in rows] == [[0, 0, 2, 2], [1, 1, 2, 2]]
    assert len({row[4] for row in rows} | {os.getpid()}) == 3
    assert extra == {"a": (1,)}
    assert (signal.getsignal(signal.SIGINT), set(threading.enumerate())) == before
    assert not set(multiprocessing.active_children()) - others


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files of this process and those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_the_first_error_is_shown_whole(jobs, tmp_path, temporary, capfd, others):
    with pytest.raises(TrainingError, match=r"^rank 1 failed with IndexError: list index out of range") as caught:
        launch(jobs.broken, 2)
    assert "launch_jobs.py" in str(caught.value)
    assert "def broken(): wait_after" in str(caught.value)
    assert not (tmp_path / "not_ended").exists()
    assert not set(multiprocessing.active_children()) - others
    assert "Traceback" not in capfd.readouterr().err  # it comes once, in the error
    assert list(temporary.iterdir()) == []


def test_a_killed_process_ends_all(jobs, tmp_path, others):
    with pytest.raises(TrainingError, match="rank 1 was killed by SIGKILL"):
        launch(jobs.killed, 2)
    assert not (tmp_path / "not_ended").exists()
    assert not set(multiprocessing.active_children()) - others


def test_processes_that_do_not_end_by_themselves_are_ended_within_seconds(jobs, others, monkeypatch):
    left = []  # processes still there when torch's agent begins to end them, to which it gives half a minute
    shutdown = LocalElasticAgent._shutdown

    def noted(agent, *args, **kwargs):
        left.append({process.pid for process in set(multiprocessing.active_children()) - others})
        shutdown(agent, *args, **kwargs)

    monkeypatch.setattr(LocalElasticAgent, "_shutdown", noted)
    with pytest.raises(TrainingError, match="rank 1 failed with ValueError: here it is") as caught:
        launch(jobs.stubborn, 2)
    assert "launch_jobs.py" in str(caught.value)
    assert left and not any(left)
    assert not set(multiprocessing.active_children()) - others


def test_an_abort_after_the_work_is_done_is_no_failure(jobs, others, caplog):
    assert launch(jobs.aborts_at_exit, 2, max_restarts=1) == [0, 1]
    assert "Every process has finished its work" in caplog.text and "-6" in caplog.text
    assert "Starting all processes again" not in caplog.text
    assert not set(multiprocessing.active_children()) - others


@pytest.mark.slow
def test_a_process_that_ends_without_a_word_is_named(jobs):
    with pytest.raises(TrainingError, match="rank 1 ended with exit code 3"):
        launch(jobs.silent, 2)


def launched(tmp_path, job):
    """A script that launches two processes, once they have left their marks in the folder."""
    folder = tmp_path / "seen"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        "import launch_jobs\nfrom drivetrain.engine import launch\n"
        f"if __name__ == '__main__':\n    launch(launch_jobs.{job}, 2, args=({str(folder)!r},))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    end = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    return process, folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_launcher_ends_with_what_the_processes_ask_for(jobs, tmp_path, number):
    process, folder = launched(tmp_path, "saves_when_asked")
    process.send_signal(number)
    assert process.wait(timeout=40) == 75
    assert {"saved0", "saved1"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_ctrl_c_reaches_each_process_once(jobs, tmp_path):
    """A terminal sends it to all of them; the launcher must not send it once more, which would mean not to save."""
    process, folder = launched(tmp_path, "counts_interrupts")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=40) == 75
    assert {"seen1-0", "seen1-1"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_errors_of_the_user_and_exit_codes_come_through(jobs):
    with pytest.raises(CheckpointError, match=r"^w\.pth is bad$"):
        launch(jobs.refused, 2)
    with pytest.raises(SystemExit) as caught:
        launch(jobs.preempted, 2)
    assert caught.value.code == 75


@pytest.mark.slow
def test_no_restart_after_bad_input_or_when_saved_for_a_resume(jobs, caplog):
    with pytest.raises(CheckpointError, match=r"^w\.pth is bad$"):
        launch(jobs.refused, 2, max_restarts=2)
    with pytest.raises(SystemExit) as caught:
        launch(jobs.preempted, 2, max_restarts=2)
    assert caught.value.code == 75
    assert "Starting all processes again" not in caplog.text


@pytest.mark.slow
def test_a_restart(jobs, tmp_path, caplog):
    (tmp_path / "marks").mkdir()
    assert launch(jobs.flaky, 2, args=(str(tmp_path / "marks"),), max_restarts=1) == 4
    assert "Starting all processes again (restart 1): the process of rank 1 was killed" in caplog.text


@pytest.mark.slow
def test_two_launches_at_once(jobs):
    code = "import launch_jobs, drivetrain.engine.launcher as l\n"
    code += "if __name__ == '__main__': print(len(l.launch(launch_jobs.ranks, 2)))"
    script = Path(sys.path[0]) / "twice.py"
    script.write_text(code)
    running = [subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=200)[0].strip() for process in running] == ["3", "3"]


def test_a_script(jobs, tmp_path):
    """As people write them: the function is in the script itself, and rank 0's results come back to it."""
    script = tmp_path / "train_net.py"
    script.write_text(
        "import torch\n"
        "from drivetrain.engine import default_argument_parser, launch\n"
        "from drivetrain.runtime import comm\n"
        "def main(args):\n"
        "    return sum(comm.all_gather(10 ** comm.get_rank())), args.opts\n"
        "if __name__ == '__main__':\n"
        "    args = default_argument_parser().parse_args()\n"
        "    print('RESULT', launch(main, args.num_gpus, num_machines=args.num_machines,\n"
        "          machine_rank=args.machine_rank, dist_url=args.dist_url, args=(args,)))\n"
    )
    command = [sys.executable, str(script), "--num-gpus", "2", "SOLVER.BASE_LR", "-1e-4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "RESULT (11, ['SOLVER.BASE_LR', '-1e-4'])\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's tables")
def test_one_machine_listens_on_loopback_alone(jobs):
    everybody = launch(jobs.listening, 2)
    addresses = {address for found in everybody for address in found}
    assert (
        len(everybody) == 2
        and addresses
        and addresses <= {"0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F"}
    )


def start_machine(tmp_path, rank, port, job, *args):
    script = tmp_path / "machine.py"
    script.write_text(
        "import sys, datetime, launch_jobs, drivetrain.engine.launcher as l\n"
        "if __name__ == '__main__':\n"
        "    rank, port, job, *args = sys.argv[1:]\n"
        "    url = f'tcp://127.0.0.1:{port}'\n"
        "    print(l.launch(getattr(launch_jobs, job), 1, 2, int(rank), url, tuple(args),\n"
        "          datetime.timedelta(seconds=100), max_restarts=1 if args else 0))\n"
    )
    command = [sys.executable, str(script), str(rank), str(port), job, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["ranks", "broken", "flaky"])
def test_two_machines(jobs, tmp_path, job):
    (tmp_path / "marks").mkdir()
    args = [str(tmp_path / "marks")] if job == "flaky" else []
    port = free_port()
    machines = [start_machine(tmp_path, rank, port, job, *args) for rank in (1, 0)]
    (out1, err1), (out0, err0) = (machine.communicate(timeout=200) for machine in machines)
    if job == "broken":
        assert "rank 1 failed with IndexError" in err1
        assert "TrainingError" in err0
        assert [machine.returncode for machine in machines] == [1, 1]
        return
    assert [machine.returncode for machine in machines] == [0, 0], err0 + err1
    assert out1.strip() == "None"
    assert out0.startswith("[[0, 0, 1, 2, " if job == "ranks" else "4")


@pytest.mark.slow
def test_it_joins_torchrun(jobs, tmp_path):
    script = tmp_path / "joined.py"
    script.write_text(
        "import launch_jobs, drivetrain.engine.launcher as l\n"
        "rows = l.launch(launch_jobs.ranks, 1)\n"
        "import sys\n"
        "sys.stdout.write(f'ROWS {[row[:4] for row in rows[:-1]]}\\n')\n"  # one write: two processes share the pipe
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ROWS [[0, 0, 2, 2], [1, 1, 2, 2]]") == 2


@pytest.mark.slow
def test_torchrun_shows_the_error_of_a_rank(jobs, tmp_path):
    script = tmp_path / "joined.py"
    script.write_text("import launch_jobs, drivetrain.engine.launcher as l\nl.launch(launch_jobs.broken, 1)\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0 and "IndexError: list index out of range" in done.stderr
    assert "def broken(): wait_after" in done.stderr
    assert not (tmp_path / "not_ended").exists()


@pytest.mark.slow
def test_it_joins_srun(jobs, tmp_path):
    script = tmp_path / "joined.py"
    script.write_text(
        "import launch_jobs, drivetrain.engine.launcher as l\n"
        "print('ROWS', [row[:4] for row in l.launch(launch_jobs.ranks, 2)[:-1]])\n"
    )
    environ = {**os.environ, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "MASTER_PORT": str(free_port())}
    running = []
    for rank in "01":
        own = {**environ, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        running.append(subprocess.Popen([sys.executable, str(script)], env=own, stdout=subprocess.PIPE, text=True))
    for process in running:
        assert process.communicate(timeout=200)[0].strip() == "ROWS [[0, 0, 2, 2], [1, 1, 2, 2]]"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_the_launching_one(jobs, tmp_path, temporary, number):
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "waits.py"
    script.write_text(
        "import sys, launch_jobs, drivetrain.engine.launcher as l\n"
        "if __name__ == '__main__': l.launch(launch_jobs.wait, 2, args=(sys.argv[1],))\n"
    )
    process = subprocess.Popen([sys.executable, str(script), str(marks)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while len(list(marks.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    workers = [int(path.name) for path in marks.iterdir()]
    assert len(workers) == 2
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: -2, signal.SIGKILL: -9}[number]
    end = time.monotonic() + 15
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(map(alive, workers))
    if number == signal.SIGKILL:  # its folder is left, until the next launch
        assert [path.name[:11] for path in temporary.iterdir()] == ["drivetrain-"]
        assert launch(jobs.ranks, 2)[0][3] == 2
    assert list(temporary.iterdir()) == []


# ---- what is refused before anything is started


def at_top(*args):
    """A function that new processes can find."""


class Unsendable:
    def __reduce__(self):
        raise TypeError("has a lock in it")


@pytest.fixture
def nothing_starts(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("a process was started")

    monkeypatch.setattr("drivetrain.engine._agent.run_processes", refuse)


LOOP = "tcp://127.0.0.1:29500"


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((None, 1), {}, r"got None \(NoneType\): pass the function itself"),
        ((at_top, -1), {}, "num_gpus_per_machine is -1"),
        ((at_top, 1.5), {}, r"num_gpus_per_machine is 1\.5"),
        ((at_top, True), {}, "num_gpus_per_machine is True"),
        ((at_top, 1, 0), {}, "num_machines is 0"),
        ((at_top, 0, 2, 0, LOOP), {}, "num_gpus_per_machine is 0 with 2 machines"),
        ((at_top, 1, 2, 2, LOOP), {}, "machine_rank is 2 of 2 machines: they are numbered from 0 to 1"),
        ((at_top, 1, 2, -1, LOOP), {}, "machine_rank is -1"),
        ((at_top, 1, 2, 0), {}, "dist_url is None"),
        ((at_top, 1, 2, 0, "auto"), {}, "dist_url is 'auto'"),
        ((at_top, 1, 2, 0, "10.0.0.1:29500"), {}, "give tcp://HOST:PORT"),
        ((at_top, 1, 2, 0, "tcp://10.0.0.1"), {}, "give tcp://HOST:PORT"),
        ((at_top, 1, 2, 0, "tcp://10.0.0.1:99999999"), {}, "give tcp://HOST:PORT"),
        ((at_top, 2, 1, 0, "nonsense"), {}, "give tcp://HOST:PORT"),
        ((at_top, 2), {"args": 3}, r"args is a int: give a tuple, such as args=\(value,\)"),
        ((at_top, 2), {"args": (1, Unsendable())}, r"args\[1\] \(Unsendable\) cannot be sent .*has a lock"),
        ((at_top, 2), {"max_restarts": -1}, "max_restarts is -1"),
        ((at_top, 2), {"timeout": 30}, "timeout is 30"),
        ((at_top, 2), {"timeout": timedelta(0)}, "timeout is"),
        ((lambda: None, 2), {}, r"<lambda> is defined inside"),
    ],
)
def test_preflight(nothing_starts, monkeypatch, args, kwargs, text):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LaunchError, match=text) as caught:
        launch(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_more_gpus_than_there_are(nothing_starts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(LaunchError, match="2 GPUs were asked for and this machine shows 1"):
        launch(at_top, 2)


def test_a_script_without_the_main_guard(nothing_starts, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(LaunchError, match="if __name__ == '__main__'"):
        launch(at_top, 2)


def test_a_function_defined_interactively(nothing_starts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(at_top, "__module__", "__main__")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(LaunchError, match="defined interactively"):
        launch(at_top, 2)
