"""Locks, atomic writes and full disks, tried with other processes and the kernel's own refusals."""

import logging
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import noisyseg as ns
from noisyseg import runs, storage

HOLD = """
import sys, time, pathlib
from noisyseg.storage import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process_holds(path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_who_waits_says_for_whom_and_goes_on(tmp_path, caplog):
    path = tmp_path / "folder"
    with another_process_holds(path) as process:
        got = threading.Event()

        def wait():
            with storage.locked(path):
                got.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not caplog.messages:
            time.sleep(0.01)
        assert not got.is_set()
        assert f"{path} is being written by process {process.pid} on " in caplog.messages[0]
        process.stdin.write("\n")
        process.stdin.flush()
        waiting.join(60)
    assert got.is_set() and not list(tmp_path.iterdir())


def test_a_killed_process_lets_go_and_the_same_thread_may_take_it_again(tmp_path):
    path = tmp_path / "folder"
    with another_process_holds(path):
        pass
    assert (tmp_path / ".folder.lock").exists()
    with storage.locked(path), storage.locked(path):
        assert (tmp_path / ".folder.lock").exists()
    assert not list(tmp_path.iterdir())


def test_two_threads_never_hold_one_lock(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with storage.locked(tmp_path / "x"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 60 and max(most) == 1


def test_parts_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    path = tmp_path / "table.csv"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getppid()):
        (tmp_path / f"table.csv.{storage._machine()}-{process}-abc.part").write_text("half")
    (tmp_path / "other.csv.part").write_text("not ours")
    storage.write_bytes(path, b"whole")
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [
        "other.csv.part", "table.csv", f"table.csv.{storage._machine()}-{os.getppid()}-abc.part"
    ]  # fmt: skip


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    real_flush, real_replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync",
        lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), real_flush(fd))[1],
    )  # fmt: skip
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append(f"rename {b}"), real_replace(a, b))[1]
    )
    storage.write_bytes(tmp_path / "file", b"x")
    part, renamed, folder = calls
    assert part.endswith(".part") and renamed == f"rename {tmp_path / 'file'}"
    assert folder == str(tmp_path)


@pytest.mark.parametrize("exchange", [True, False])
def test_folders_change_names(exchange, tmp_path, monkeypatch):
    if not exchange:
        monkeypatch.setattr(storage, "_exchange", lambda one, other: False)
    part, path = tmp_path / ".a.0.part", tmp_path / "a"
    for folder, text in ((part, "new"), (path, "old")):
        folder.mkdir()
        (folder / "file").write_text(text)
    storage.move_into_place(part, path)
    assert (path / "file").read_text() == "new" and (part / "file").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.0.part", "a"]


@contextmanager
def at_most(size):
    """The kernel refuses files above `size` bytes in this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def prepared(path):
    images = np.random.default_rng(0).random((20, 1, 32, 32), dtype=np.float32)
    truth = np.zeros((20, 32, 32), np.int8)
    meta = {"classes": ["a", "b"], "origin": "simulated"}
    return ns.write_prepared(path, images, None, truth, **meta)


BIG = {"x": torch.zeros(10_000)}
WRITERS = {
    "prepared folder": (lambda p: prepared(p / "toy"), "0.1 MB"),
    "checkpoint": (lambda p: runs.Checkpoint(p, "0").save(BIG), "0.0 MB"),
    "model": (lambda p: runs.write_model(p, BIG), "0.0 MB"),
    "json": (lambda p: storage.write_json(p / "x.json", {"x": "y" * 20_000}), "0.0 MB"),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_says_which_and_how_much_is_needed(what, tmp_path):
    write, needed = WRITERS[what]
    with at_most(4096), pytest.raises(storage.DiskFull) as caught:
        write(tmp_path)
    message = str(caught.value)
    disk = next(p for p in [tmp_path, *tmp_path.parents] if os.path.ismount(p))
    for part in (f"no room on the disk at {disk}: ", f"takes {needed}", " are free", "NOISYSEG_"):
        assert part in message
    assert not list(tmp_path.iterdir())
    write(tmp_path)  # and with room, it goes on


def test_a_folder_that_does_not_fit_is_refused_before_it_is_written(tmp_path, monkeypatch):
    usage = storage.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage._replace(free=50_000))
    with pytest.raises(storage.DiskFull, match=r"takes 0\.1 MB, and 0\.1 MB are free"):
        prepared(tmp_path / "toy")
    assert not list(tmp_path.iterdir())


def test_damaged_things_get_the_next_free_name(tmp_path, caplog):
    for n in (1, 2):
        (tmp_path / "run").mkdir()
        with caplog.at_level(logging.WARNING):
            assert storage.set_aside(tmp_path / "run", "cut").name == f"run.damaged-{n}"
    assert f"{tmp_path / 'run'}: cut; it is now run.damaged-2, and made again" in caplog.messages
