"""Pickles read as plain data: no name in a file is imported, and only functions that the caller lists are called.

Python's own machine does the reading (`pickle.Unpickler` in its pure form). What would import or call is replaced:
a name becomes a `Name`, and an object of any class a `Record` of what the file says about it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from ..errors import InputError, shortened


class Malformed(ValueError):
    """Not a pickle, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Name:
    """A member of a module that a file names. Nothing is imported."""

    module: str
    member: str

    def __str__(self) -> str:
        return f"{self.module}.{self.member}"

    def __call__(self, *arguments: Any) -> Any:
        """What a pickle's call of this name gives: an empty dict, or a `Record`."""
        if self == Name("collections", "OrderedDict") and not arguments:
            return {}
        return {} if self == Name("collections", "defaultdict") else Record(self)


@dataclass(eq=False, slots=True)
class Record:
    """An object in a file: the name of its class and its state, without any behaviour."""

    name: Name
    state: Any = None


#: Classes that hold plain data; `plain` takes their content.
_OMEGACONF = {
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": (
        *("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "EnumNode"),
        *("BytesNode", "PathNode", "ValueNode"),
    ),
}
#: What S3PRL's runner writes: `Args`, and the states of modules.
EXPERIMENT: dict[str, tuple[str, ...]] = {
    "argparse": ("Namespace",),
    "collections": ("OrderedDict", "defaultdict"),
}
#: What fairseq and S3PRL write of models.
MODEL: dict[str, tuple[str, ...]] = {
    **EXPERIMENT,
    **_OMEGACONF,
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "typing": ("Any", "Union", "Optional", "Dict", "List", "Tuple"),
    "builtins": ("dict", "list", "set", "frozenset", "tuple", "int", "float", "bool", "str", "bytes"),
    "__builtin__": ("dict", "list", "set", "frozenset", "tuple", "int", "long", "float", "bool", "unicode"),
}

#: An opcode makes some 200 bytes at most, so 200,000 of them are few for any file.
_FREE_OPCODES = 200_000
_FILE_BYTES_PER_OPCODE = 128
_FREE_BYTES = 2**24
_FILE_BYTES_PER_BYTE = 8
#: Opcodes that checkpoints do not need: old ways to call, tables of the process, buffers outside the file.
_REFUSED = (
    *(pickle.PERSID, pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.DUP),
)


def most_pickled(size: int) -> int:
    """Bytes that the pickle of a file of ``size`` bytes may have: the rest should be tensors."""
    return max(_FREE_BYTES, size // _FILE_BYTES_PER_BYTE)


class Unpickler(pickle._Unpickler):
    """Reads one pickle of a file.

    Args:
        file: positioned at the pickle; left behind it.
        size: of the whole file in bytes. It bounds the pickle's length and its number of opcodes, so that a file
            of one-byte opcodes does not take a hundred times its size in memory.
        functions: what the pickle may call, by name: functions of plain data (the tensors' constructors). None
            stands beside a name that it may mention only.
        persistent: what stands for a persistent id (a storage).
        only: names that the pickle may mention beside ``functions``, per module; None for any.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: step for code, step in pickle._Unpickler.dispatch.items() if bytes([code]) not in _REFUSED
    }

    def __init__(
        self,
        file: IO[bytes],
        size: int,
        functions: dict[str, Callable[..., Any] | None],
        persistent: Callable[[Any], Any],
        only: Mapping[str, tuple[str, ...]] | None,
    ) -> None:
        super().__init__(file, encoding="latin1")
        self.file, self.bytes_left = file, most_pickled(size)
        self.opcodes = max(_FREE_OPCODES, size // _FILE_BYTES_PER_OPCODE)
        self.functions, self.persistent, self.only = functions, persistent, only

    def load(self) -> Any:
        """What the pickle holds: plain data, `Record`, `Name`, and what ``functions`` give.

        Raises:
            InputError: it names something that ``only`` does not list.
            Malformed: it is damaged, or longer than the pickle of such a file.
        """
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        try:
            for _ in range(self.opcodes):
                opcode = self.read(1)
                if opcode == pickle.STOP:
                    return self.stack.pop()
                self.dispatch[ord(opcode)](self)
        except InputError:
            raise
        except (ArithmeticError, AttributeError, EOFError, LookupError, TypeError, ValueError,
                pickle.UnpicklingError) as error:  # fmt: skip
            raise Malformed(str(error)) from error
        raise Malformed("its pickle has more opcodes than that of any checkpoint of this size")

    def read(self, count: int) -> bytes:
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise Malformed("its pickle is longer than that of any checkpoint of this size")
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(self.bytes_left)
        self.bytes_left -= len(line)
        if not line.endswith(b"\n"):
            raise Malformed("a line without an end")
        return line

    def find_class(self, module: Any, member: Any) -> Any:
        if type(module) is not str or type(member) is not str:
            raise Malformed("a name that is no string")
        name = Name(module, member)
        listed = self.only is None or member in self.only.get(module, ()) or str(name) in self.functions
        if not listed:
            raise refused(name)
        return name

    def persistent_load(self, identifier: Any) -> Any:
        return self.persistent(identifier)

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.metastack.pop()
        self.append = self.stack.append
        return items

    def load_frame(self) -> None:
        self.read(8)  # a frame's length: its opcodes are read, and counted, like all others

    def load_call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple or not isinstance(name, Name):
            raise Malformed("a call of no function")
        self.append((self.functions.get(str(name)) or name)(*arguments))

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # keyword arguments
        self.load_call()

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif type(target) is not dict:  # a state_dict's `_metadata` is dropped
            raise Malformed("a state for an object that cannot have one")

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(_keys(items))
        elif not isinstance(target, Record):
            raise Malformed("items for an object that cannot have them")

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # it changes `append`
        self.append(frozenset(_keys(items)))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(dict(zip(_keys(items[::2]), items[1::2], strict=True)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is dict:
            target.update(zip(_keys(items[::2]), items[1::2], strict=True))
        elif not isinstance(target, Record):
            raise Malformed("entries for an object that cannot have them")

    dispatch |= {
        ord(pickle.FRAME): load_frame,
        ord(pickle.REDUCE): load_call,
        ord(pickle.NEWOBJ): load_call,
        ord(pickle.NEWOBJ_EX): load_newobj_ex,
        ord(pickle.BYTEARRAY8): load_bytearray8,
        ord(pickle.BUILD): load_build,
        ord(pickle.APPEND): load_append,
        ord(pickle.APPENDS): load_appends,
        ord(pickle.ADDITEMS): load_appends,
        ord(pickle.FROZENSET): load_frozenset,
        ord(pickle.DICT): load_dict,
        ord(pickle.SETITEM): load_setitem,
        ord(pickle.SETITEMS): load_setitems,
    }


def _keys(items: Iterable[Any]) -> list[Any]:
    """``items``, which may be a dict's keys or in a set: to hash tuples in tuples in tuples overflows C's stack."""
    found = list(items)
    for item in found:
        parts = item if type(item) is tuple else (item,)
        if not all(isinstance(part, (str, int, float, bytes, type(None), Name, Record)) for part in parts):
            raise Malformed("a key that is neither a name nor a number")
    return found


def refused(name: Name) -> InputError:
    """The error for a file with an object of a class that checkpoints do not need."""
    return InputError(
        f"refused: it asks to import {shortened(name)}; checkpoints may hold tensors and plain data only."
    )


def named_in(value: Any) -> Name | None:
    """The first class that a plain value, or a list in it, is of or mentions; None where it is plain data."""
    if isinstance(value, (list, tuple)):
        return next((name for name in map(named_in, value) if name), None)
    return value.name if isinstance(value, Record) else value if isinstance(value, Name) else None


def parts(value: Any) -> Iterator[Any]:
    """``value`` and all that is in it, at any depth, each object once."""
    waiting, seen = [value], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, Record):
            waiting.append(value.state)
        elif isinstance(value, (dict, list, tuple)):
            waiting += value.values() if isinstance(value, dict) else value


def plain(value: Any) -> Any:
    """``value`` with dicts, lists, numbers and strings in place of the records that stand for them.

    `argparse.Namespace` becomes a dict, OmegaConf's containers theirs, its nodes their values; interpolations stay
    strings that are not resolved. Tensors, and records of other classes, come back as they are.
    """
    return _Plain().of(value, 0)


class _Plain:
    """One conversion. An object that occurs twice is converted once."""

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}

    def of(self, value: Any, depth: int) -> Any:
        if depth > 50:
            raise Malformed("nested more than 50 deep")
        if not isinstance(value, (dict, list, tuple, Record)):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = None  # a container within itself ends here
            self.done[id(value)] = self.convert(value, depth + 1)
        return self.done[id(value)]

    def convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, Record):
            state = value.state if type(value.state) is dict else {}
            if value.name == Name("argparse", "Namespace"):
                return self.of(state, depth)
            if value.name.member in _OMEGACONF.get(value.name.module, ()):
                return self.of(state.get("_content", state.get("_val")), depth)
            return value
        if isinstance(value, dict):
            return {key: self.of(entry, depth) for key, entry in value.items()}
        return type(value)(self.of(entry, depth) for entry in value)
