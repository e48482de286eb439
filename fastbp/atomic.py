"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import IO

from fastbp import _check


def replace(path: str | os.PathLike[str], content: bytes | Callable[[IO[bytes]], None]) -> None:
    """Write a new file beside the old one, then put it in its place: at any moment one of them is whole.

    Parameters
    ----------
    path : str or path-like
        The file's name; a link is followed, an existing file keeps its permissions.
    content : bytes or callable
        What to write, or what writes it into the open file.

    Raises
    ------
    TypeError
        For a ``path`` that is no name.
    OSError
        When the file cannot be written, naming ``path``; an old file is then what it was.
    """
    name = _check.path(path)
    try:
        _replace(os.path.realpath(name) if os.path.islink(name) else name, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), name) from error


def check(path: str | os.PathLike[str]) -> None:
    """Raise what `replace` would, as far as it can be told before there is anything to write."""
    name = _check.path(path)
    target = os.path.realpath(name)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    _permissions(target)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)


def _replace(target: str, content: bytes | Callable[[IO[bytes]], None]) -> None:
    folder = os.path.dirname(target)
    permissions = _permissions(target)
    temporary = os.path.join(folder, f".fastbp-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            if permissions is not None:
                os.chmod(temporary, permissions)
            file.flush()
            os.fsync(file.fileno())  # else the name may reach the disk before the bytes
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # Windows opens no folder, some file systems sync none
        descriptor = os.open(folder or os.curdir, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _permissions(target: str) -> int | None:
    """The mode of an existing file, None for a new one; what open() would refuse is refused."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", target)
    if not os.access(target, os.W_OK):  # replacing it would need the folder's permission only
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    return stat.S_IMODE(mode)
