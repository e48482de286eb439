"""Arrays that are written into and never replaced: those of a network lie in its flat vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

from numpy.typing import ArrayLike, NDArray


class Arrays(Mapping[str, NDArray[Any]]):
    """Arrays by name."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return repr(dict(self._arrays))

    def __setitem__(self, name: str, array: ArrayLike) -> None:
        if array is not self._arrays.get(name):  # as it is in layer.parameters["weight"] -= ...
            raise TypeError(f"the array {name!r} cannot be replaced, write into it: [{name!r}][:] = ...")


class view:
    """A property that gives an array."""

    def __init__(self, get: Callable[[Any], NDArray[Any]]) -> None:
        self._get = get
        self.__doc__ = get.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> view: ...

    @overload
    def __get__(self, owner: object, kind: type[Any]) -> NDArray[Any]: ...

    def __get__(self, owner: object | None, kind: type[Any]) -> view | NDArray[Any]:
        return self if owner is None else self._get(owner)

    def __set__(self, owner: object, array: ArrayLike) -> None:
        if array is not self._get(owner):  # as it is in net.parameters *= ...
            name = self._get.__name__
            raise AttributeError(f"{name} cannot be replaced, write into it: {name}[:] = ...")
