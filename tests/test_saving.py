"""A save is whole or not at all, whatever stops it."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from archives import small
from interpreter import run

import fastbp as bp


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def note_sync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        bp.Network.load(source)
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    small().save(path)
    assert events == ["file", "replace", "folder"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "ctrl-c"]
)
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(function, error, saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)) as caught:
        small(seed=4).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    if isinstance(error, OSError):
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))


FULL_DISK = """
import resource, fastbp as bp
net = bp.Network([bp.Dense(100, 100)])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    net.save({path!r})
except OSError as error:
    print(type(error).__name__, error.errno, error.filename)
"""


def test_a_file_that_does_not_fit_on_the_disk_is_an_oserror_with_its_name(saved):
    """A limit on the size of files, met in the middle of the parameters."""
    path, _ = saved
    before = path.read_bytes()
    assert run(FULL_DISK.format(path=str(path))) == f"OSError {errno.EFBIG} {path}\n"
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# Relative names: the folders above belong to the user who runs the tests.
FORBIDDEN = """
import os, fastbp as bp
os.chdir({folder!r})
net = bp.Network([bp.Dense(2, 1)])
net.save("kept.npz")
os.mkdir("closed")
for name, mode in (("closed", 0o555), (".", 0o777), ("kept.npz", 0o444)):
    os.chmod(name, mode)
inside = os.open("closed", os.O_RDONLY)
if os.getuid() == 0:  # whom no mode stops
    os.setuid(65534)
for folder, name in ((".", "kept.npz"), (inside, "new.npz")):
    os.chdir(folder)
    try:
        net.save(name)
    except PermissionError as error:
        print(error.filename, os.listdir("."))
"""


def test_a_folder_or_file_that_may_not_be_written_is_an_oserror_with_its_name(tmp_path):
    lines = run(FORBIDDEN.format(folder=str(tmp_path))).splitlines()
    assert lines[0] in ("kept.npz ['kept.npz', 'closed']", "kept.npz ['closed', 'kept.npz']")
    assert lines[1:] == ["new.npz []"]


def test_what_is_no_file_is_neither_replaced_nor_read(tmp_path, path):
    with pytest.raises(IsADirectoryError) as caught:
        small().save(tmp_path)
    assert caught.value.filename == str(tmp_path)
    with pytest.raises((IsADirectoryError, PermissionError)):
        bp.Network.load(tmp_path)
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        small().save(path)
    with pytest.raises(ValueError, match="not a regular file"):  # not waiting for a writer
        bp.Network.load(path)
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path):
    for call in (bp.Network.load, small().save):
        with pytest.raises(FileNotFoundError) as caught:
            call(tmp_path / "nowhere" / "net.npz")
        assert caught.value.filename == str(tmp_path / "nowhere" / "net.npz")


@pytest.mark.parametrize(("existing", "umask", "expected"), [
    (None, 0o022, 0o644), (None, 0o027, 0o640), (0o600, 0o022, 0o600), (0o664, 0o077, 0o664),
])  # fmt: skip
def test_the_permissions_are_those_of_an_ordinary_or_of_the_old_file(existing, umask, expected, path):
    if existing is not None:
        path.touch()
        path.chmod(existing)
    before = os.umask(umask)
    try:
        small().save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == expected


def test_a_link_stays_a_link_to_the_new_file(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "real.npz")
    for _ in range(2):  # to a file that is not there yet, and to one that is
        small().save(path)
        assert path.is_symlink()
        assert os.listdir(tmp_path / "elsewhere") == ["real.npz"]


KILLED = """
import os, random, signal, sys, time
import numpy as np, fastbp as bp
path = {path!r}
net = bp.Network([bp.Dense(50, 40)])

def found():
    values = np.unique(bp.Network.load(path).parameters).tolist()
    assert len(values) == 1, values
    return values[0]

def killed(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child

def save(value, last_call=None):
    calls = 0
    def count(*_):
        nonlocal calls
        calls += 1
        if calls == last_call:
            os.kill(os.getpid(), signal.SIGKILL)
    net.parameters[:] = value
    sys.setprofile(count)
    net.save(path)
    sys.setprofile(None)
    return calls

save(0)
calls, old, outcomes = save(0), 0, []
moments = [*range(1, calls - 60, 17), *range(calls - 60, calls)]
for moment in moments:
    _, status = os.waitpid(killed(lambda: save(moment, moment)), 0)
    assert os.WIFSIGNALED(status), moment
    value = found()
    assert value in (old, moment), (value, old, moment)
    outcomes.append(value == moment)
    old = value
print(len(moments) > 100, outcomes[0], outcomes[-1], outcomes == sorted(outcomes))

def save_over_and_over():
    for value in range(1_000_000):
        net.parameters[:] = value
        net.save(path)

rng = random.Random(0)
for _ in range(50):
    child = killed(save_over_and_over)
    time.sleep(rng.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found()
"""


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(path):
    """Before each of many calls that a save makes, then at moments that the clock chooses."""
    assert run(KILLED.format(path=str(path))) == "True False True True\n"
