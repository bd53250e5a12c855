"""Where things lie on disk, and how they are written: whole or not at all, by one at a time.

The only module that reads NOISYSEG_* variables, takes locks, renames, and knows full disks.
"""

import ctypes
import errno
import glob
import hashlib
import itertools
import json
import logging
import math
import os
import platform
import secrets
import shutil
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and paths are needed by quick commands

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is computed, not shown


def project_root() -> Path:
    """The checkout this package is imported from, else the current directory."""
    parent = Path(__file__).resolve().parent.parent
    return parent if (parent / "pyproject.toml").exists() else Path.cwd()


def _root(variable: str, folder: str) -> Path:
    moved = os.environ.get(variable)
    return Path(moved).expanduser() if moved else project_root() / folder


def data_root() -> Path:
    """Prepared data sets: NOISYSEG_DATA, else `data/` of the checkout."""
    return _root("NOISYSEG_DATA", "data")


def runs_root() -> Path:
    """Run folders: NOISYSEG_RUNS, else `runs/` of the checkout."""
    return _root("NOISYSEG_RUNS", "runs")


def figures_root() -> Path:
    """Figures, tables and their source data: NOISYSEG_FIGURES, else `figures/` of the checkout."""
    return _root("NOISYSEG_FIGURES", "figures")


log = logging.getLogger("noisyseg")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a full quota, a limit on file size
_held = threading.local()  # the lock files that this thread holds


class DiskFull(OSError):
    """There is no room left; the message says on which disk, how much is needed, and what to do."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file or folder about to be written, until the block ends.

    Everything that several processes may write takes it: prepared folders, runs, reports, tables.
    Another process waits and says for whom; a killed one lets go by itself. The thread that holds
    the lock may take it again. The lock is a hidden file beside `path`, gone when it is free.
    """
    file = lock_file(path)
    held: set[tuple[int, Path]] = _held.__dict__.setdefault("files", set())
    mine = (os.getpid(), file)  # a forked child holds nothing
    if mine in held:
        yield
        return
    lock = _acquired(file, path)
    held.add(mine)
    try:
        yield
    finally:
        held.discard(mine)
        # While it is held: whoever waits finds that its file has no name any more, and asks again.
        file.unlink(missing_ok=True)
        lock.release()


def lock_file(path: Path) -> Path:
    """The file that is locked for `path`; a process that was killed leaves it behind."""
    path = Path(os.path.abspath(path))
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.lock")
    # The folder may be all that is writable, as where a container mounts it.
    return beside if os.access(path.parent, os.W_OK) or not path.is_dir() else path / ".lock"


def _acquired(file: Path, path: Path) -> FileLock:
    lock = FileLock(file)
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("%s is being written by %s; waiting for it", path, _holder(file))
            lock.acquire()
    with suppress(OSError):  # a name for those who wait; the lock holds without it
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write_text(f"process {os.getpid()} on {platform.node()}, since {now}")
    return lock


def _holder(file: Path) -> str:
    try:
        return file.read_text("utf-8") or "another process"
    except (OSError, UnicodeDecodeError):  # it may just have let go
        return "another process"


@contextmanager
def replacing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Write to the path given, then rename it to `path`; a failure leaves the old file.

    The bytes are on the disk before the file has its name. `needed`: how many bytes it takes, for
    the message of `DiskFull`. What a killed process left of the same file is removed.
    """
    with explained(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_strays(path)
        part = path.with_name(f"{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(3)}.part")
        try:
            yield part
            move_into_place(part, path)
        finally:
            part.unlink(missing_ok=True)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_strays(path: Path) -> None:
    """Remove parts of `path` whose process, on this machine, is no more."""
    for stray in path.parent.glob(f"{glob.escape(path.name)}.{_machine()}-*-*.part"):
        process = stray.name.removesuffix(".part").split("-")[-2]
        if process.isdigit() and not _is_running(int(process)):
            stray.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # there, asking would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's, or nothing that can be asked
    return True


def move_into_place(part: Path, path: Path) -> None:
    """Rename the file or folder `part` to `path`, its bytes on the disk before it has the name.

    Where `path` is a folder, the two change names in one step if the system can; `part` is then
    the old folder. Where it cannot, the old folder is `path`.old for a moment, and `recover`
    brings it back should the process be killed just then.
    """
    for file in [*part.rglob("*"), part] if part.is_dir() else [part]:
        _flush(file)
    if not (part.is_dir() and path.is_dir()):
        os.replace(part, path)
    elif not _exchange(part, path):
        old = path.with_name(f"{part.name}.old")
        os.replace(path, old)
        try:
            os.replace(part, path)
        finally:
            os.replace(old, part if path.exists() else path)
    _flush(path.parent)


def recover(path: Path) -> None:
    """Bring back the folder `path` that a killed process left under its name for the old one."""
    pattern = f".{glob.escape(path.name)}.*.old"
    if not path.exists() and any(path.parent.glob(pattern)):
        with locked(path):
            olds = sorted(path.parent.glob(pattern))
            if olds and not path.exists():
                os.replace(olds[-1], path)


def _flush(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # there, a folder cannot be opened
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; False where the system has no such call."""
    if os.name == "nt":
        return False
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    arguments = here, os.fsencode(one), here, os.fsencode(other), exchange
    return call is not None and call(*arguments) == 0


@contextmanager
def explained(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn "no space left on device" into `DiskFull`: which disk, how much is needed and free."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, DiskFull):
            raise
        raise disk_full(path, needed) from error


def check_room(path: Path, needed: int) -> None:
    """Raise `DiskFull` before the work starts where `needed` bytes do not fit beside `path`."""
    if shutil.disk_usage(_there(path)).free < needed:
        raise disk_full(path, needed)


def disk_full(path: Path, needed: int | None) -> DiskFull:
    """The error for `path`, which takes `needed` bytes (None: nobody knows)."""
    disk = folder = _there(path)
    while disk != disk.parent and disk.parent.stat().st_dev == folder.stat().st_dev:
        disk = disk.parent
    free = _size(shutil.disk_usage(disk).free)
    need = "more than there is" if needed is None else _size(needed)
    error = DiskFull(
        f"{path}: no room on the disk at {disk}: it takes {need}, and {free} are free (a quota may "
        "allow less); make room and run it again, or write elsewhere (NOISYSEG_DATA, "
        "NOISYSEG_RUNS, NOISYSEG_FIGURES, --out)"
    )
    error.errno = errno.ENOSPC
    return error


def _there(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    path = Path(os.path.abspath(path))
    return next(parent for parent in path.parents if parent.is_dir())


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"


def set_aside(path: Path, why: str) -> Path:
    """Rename a damaged file or folder to `<name>.damaged-<n>`, and say so; returns where it is."""
    names = (path.with_name(f"{path.name}.damaged-{n}") for n in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    os.replace(path, aside)
    log.warning("%s: %s; it is now %s, and made again", path, why, aside.name)
    return aside


def sha256(file: Path) -> str:
    """The checksum (hex) of a file's content."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """`content` as the file `path`, atomically."""
    with replacing(path, len(content)) as part:
        part.write_bytes(content)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """`values` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(values, indent=1, sort_keys=True) + "\n").encode())


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """`table` as CSV without its index, atomically."""
    write_bytes(path, table.to_csv(None, index=False, float_format="%.6g").encode())


NPZ_GB = 4.0  # what the arrays of one .npz may take in memory, unless NOISYSEG_MAX_GB says more


def check_npz(file: Path, limit_gb: float | None = None) -> None:
    """ValueError where the arrays of an .npz announce more memory than is allowed.

    A file of some kilobytes can unpack to any size, and a header can announce any shape: both
    are asked before anything is unpacked. What is no .npz is left to its reader.
    """
    import numpy as np  # quick commands need paths alone

    limit = float(os.environ.get("NOISYSEG_MAX_GB", NPZ_GB)) if limit_gb is None else limit_gb
    asked = 0
    with suppress(zipfile.BadZipFile, FileNotFoundError), zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as stream, suppress(ValueError, OSError, EOFError):
                first = np.lib.format.read_magic(stream) == (1, 0)
                form = np.lib.format
                read = form.read_array_header_1_0 if first else form.read_array_header_2_0
                shape, _, dtype = read(stream)
                asked += max(0, math.prod(shape) * dtype.itemsize - entry.file_size)
            asked += entry.file_size
    if asked > limit * 1e9:
        raise ValueError(
            f"{file}: announces {asked / 1e9:.3g} GB of arrays, and the limit is {limit:g} GB; if "
            f"that is right, set NOISYSEG_MAX_GB={asked * 1.01 / 1e9:.3g}"
        )


def no_formulas(table: "pd.DataFrame") -> "pd.DataFrame":
    """`table` with an apostrophe before texts that a spreadsheet would take for formulas."""

    def safe(value: Any) -> Any:
        starts = isinstance(value, str) and value.startswith(FORMULAS)
        return f"'{value}" if starts else value

    return table.map(safe)
