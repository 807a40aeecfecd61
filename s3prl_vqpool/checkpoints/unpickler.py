"""A pickle machine that can only build plain data: no name in a file is ever imported, nothing is called.

The opcodes are parsed by the standard library's `pickletools`, which runs nothing. Classes on the list below
become tokens and, when a file makes one, dicts, lists or the values they wrap; every other name, and every
opcode that could call something else, is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, cast

from ..errors import InputError


class Malformed(ValueError):
    """Not a pickle, or one that does not hold together."""


@dataclass(frozen=True)
class Name:
    """A module's member as a file names it; a token, nothing is imported."""

    module: str
    member: str

    def __str__(self) -> str:
        return f"{self.module}.{self.member}"


@dataclass(eq=False)
class Record:
    """An object of a listed class: its attributes, and nothing of its behaviour."""

    name: Name
    attributes: dict[str, Any] = field(default_factory=dict)


_PLAIN = {
    "dict",
    "list",
    "set",
    "frozenset",
    "tuple",
    "int",
    "long",
    "float",
    "bool",
    "str",
    "unicode",
    "bytes",
}
_OMEGACONF = {
    "omegaconf.dictconfig": {"DictConfig"},
    "omegaconf.listconfig": {"ListConfig"},
    "omegaconf.base": {"ContainerMetadata", "Metadata"},
    "omegaconf.nodes": {
        *("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "EnumNode"),
        *("BytesNode", "PathNode", "ValueNode"),
    },
}
_RECORDS = {"argparse": {"Namespace"}, **_OMEGACONF}
#: Everything that a file may name beside what the caller's `functions` and `storages` add.
_NAMED: dict[str, set[str]] = {
    **_RECORDS,
    "builtins": _PLAIN,
    "__builtin__": _PLAIN,
    "typing": {"Any", "Union", "Optional", "Dict", "List", "Tuple"},
    "collections": {"OrderedDict", "defaultdict"},
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_FILL = {"TUPLE": tuple, "LIST": list}
_COPIED: dict[str, Callable[[Any], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "list": list,
    "tuple": tuple,
    "dict": dict,
}
_MARK = object()

#: What may be a dict's key or in a set: hashing tuples in tuples in tuples overflows Python's stack.
_KEYS = (str, int, float, bytes, type(None))
#: An opcode makes some 200 bytes at most, so these many are of no weight in any file.
_FREE_OPCODES = 200_000
_FILE_BYTES_PER_OPCODE = 128
_FREE_BYTES = 2**24
_FILE_BYTES_PER_BYTE = 8
_LONGEST_VALUE = 2**20


class _Bounded:
    """The reads that `pickletools` makes, none longer than a checkpoint's names, and not too many of them."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left = file, most_pickled(size)

    def read(self, count: int) -> bytes:
        if count > _LONGEST_VALUE:
            raise Malformed("a value of more bytes than a checkpoint has any use for")
        return self._counted(self.file.read(count))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(_LONGEST_VALUE))

    def _counted(self, found: bytes) -> bytes:
        self.left -= len(found)
        if self.left < 0:
            raise Malformed("a longer pickle than a checkpoint of this size has")
        return found


def most_pickled(size: int) -> int:
    """Bytes that the pickle of a file of ``size`` bytes may have: the rest should be tensors."""
    return max(_FREE_BYTES, size // _FILE_BYTES_PER_BYTE)


class Machine:
    """Runs one pickle of a file.

    Args:
        file: positioned at the pickle; left behind it.
        size: of the whole file in bytes: it bounds the pickle's length and how many opcodes are run, so that a
            file of one-byte opcodes does not grow into a hundred times its size.
        functions: what may be called, by name: functions of plain data (the tensors' constructors).
        members: names that may be mentioned beside those, per module (the storages' types).
        persistent: what stands for a persistent id (a storage).
    """

    def __init__(
        self,
        file: IO[bytes],
        size: int,
        functions: dict[str, Callable[..., Any]],
        members: dict[str, set[str]],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.file = _Bounded(file, size)
        self.functions, self.members, self.persistent = functions, members, persistent
        self.left = max(_FREE_OPCODES, size // _FILE_BYTES_PER_OPCODE)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What the pickle holds: plain data, `Record`, `Name`, and what ``functions`` give.

        Raises:
            InputError: it names something that is not listed.
            Malformed: it is damaged.
        """
        try:
            for opcode, argument, _ in pickletools.genops(cast(IO[bytes], self.file)):
                self.left -= 1
                if self.left < 0:
                    raise Malformed("more opcodes than a checkpoint of this size has")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.step(opcode.name, argument)
        except InputError:
            raise
        except (
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            EOFError,
        ) as error:
            raise Malformed(str(error)) from error
        raise Malformed("no end")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _FILL:
            stack.append(_FILL[name](self.since_mark()))
        elif name == "FROZENSET":
            stack.append(frozenset(_keys(self.since_mark())))
        elif name == "DICT":
            stack.append({})
            self.set_items(self.since_mark(below=1))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            self.extend([stack.pop()] if name == "APPEND" else self.since_mark())
        elif name in ("SETITEM", "SETITEMS"):
            self.set_items([stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self.since_mark())
        elif name == "GLOBAL":
            stack.append(self.named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            member, module = stack.pop(), stack.pop()
            stack.append(self.named(module, member))
        elif name == "BINPERSID":
            stack.append(self.persistent(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self.call(stack.pop(), arguments))
        elif name == "NEWOBJ":
            arguments = stack.pop()
            stack.append(self.make(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.set_state(stack[-1], state)
        else:
            raise InputError(f"refused, it holds a pickle's opcode {name}, which no checkpoint needs.")

    def since_mark(self, below: int = 0) -> list[Any]:
        """Take what lies above the last mark (or, ``below`` the top, under it), and the mark."""
        top = [self.stack.pop() for _ in range(below)]
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise Malformed("no mark")
        items = self.stack[place + 1 :]
        self.stack[place:] = top
        return items

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(_keys(items))
        else:
            raise Malformed("items for something that has none")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise Malformed("entries for something that has none")
        target.update(zip(_keys(items[::2]), items[1::2]))

    def set_state(self, target: Any, state: Any) -> None:
        """What BUILD does: attributes of a record; those of a dict (`state_dict()._metadata`) are dropped."""
        if type(target) is dict:
            return
        if not isinstance(target, Record):
            raise Malformed("attributes for something that has none")
        for part in state if type(state) is tuple else (state,):
            if part is not None:
                self.left -= len(part)
                target.attributes.update({_text(key): value for key, value in part.items()})

    def named(self, module: Any, member: Any) -> Name:
        name = Name(_text(module), _text(member))
        listed = (
            str(name) in self.functions
            or name.member in _NAMED.get(name.module, ())
            or name.member in self.members.get(name.module, ())
        )
        if not listed:
            raise InputError(
                f"refused, it asks to import {' '.join(str(name).split())[:200]}; "
                "checkpoints may hold tensors and plain data only."
            )
        return name

    def call(self, name: Any, arguments: Any) -> Any:
        """What REDUCE gives: a listed function's value, or an empty or copied plain container."""
        if not isinstance(name, Name) or type(arguments) is not tuple:
            raise Malformed("a call of no function")
        if str(name) in self.functions:
            return self.functions[str(name)](*arguments)
        if name.module == "collections":
            return self.copied(dict, *arguments) if name.member == "OrderedDict" and arguments else {}
        if name.module in ("builtins", "__builtin__") and name.member in _COPIED:
            return self.copied(_COPIED[name.member], *arguments)
        return self.make(name, arguments)

    def copied(self, kind: Callable[[Any], Any], items: Any = ()) -> Any:
        """``kind(items)``: an item costs what an opcode costs, and keys are those that `_keys` lets through."""
        if type(items) not in (list, tuple, dict):
            raise Malformed("a copy of something that has no items")
        self.left -= len(items)
        if kind is dict:
            pairs = list(items.items() if type(items) is dict else items)
            return dict(zip(_keys(key for key, _ in pairs), (value for _, value in pairs)))
        return kind(_keys(items) if kind in (set, frozenset) else items)

    def make(self, name: Any, arguments: Any) -> Any:
        """What NEWOBJ gives: a listed class's `Record`, without attributes."""
        if not isinstance(name, Name) or name.member not in _RECORDS.get(name.module, ()) or arguments != ():
            if name == Name("collections", "OrderedDict") and arguments == ():
                return {}
            raise InputError(
                f"refused, it asks to make {str(name)[:200]}; checkpoints hold tensors and plain data."
            )
        return Record(name)


def _keys(items: Iterable[Any]) -> list[Any]:
    found = list(items)
    if not all(isinstance(item, _KEYS) for item in found):
        raise Malformed("a key that is no name or number")
    return found


def _text(value: Any) -> str:
    """``value``, a string: to write out anything else can take more memory than any file."""
    if type(value) is not str:
        raise Malformed("a name that is no string")
    return value


def plain(value: Any) -> Any:
    """``value`` with every record replaced by what it stands for: dicts, lists, numbers, strings.

    `argparse.Namespace` becomes a dict, OmegaConf's containers theirs, its nodes their values; unresolved
    interpolations stay strings. Tensors and other leaves come back as they are.
    """
    return _Plain().of(value, 0)


class _Plain:
    """One conversion: what occurs twice is converted once."""

    def __init__(self) -> None:
        self.done: dict[int, Any] = {}

    def of(self, value: Any, depth: int) -> Any:
        if depth > 50:
            raise Malformed("nested more than 50 deep")
        if not isinstance(value, (dict, list, tuple, Record)):
            return str(value) if isinstance(value, Name) else value
        if id(value) not in self.done:
            self.done[id(value)] = None  # a container within itself ends here
            self.done[id(value)] = self.convert(value, depth + 1)
        return self.done[id(value)]

    def convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, Record):
            attributes = value.attributes
            if value.name.module == "argparse":
                return self.of(attributes, depth)
            return self.of(attributes.get("_content", attributes.get("_val")), depth)
        if isinstance(value, dict):
            return {key: self.of(entry, depth) for key, entry in value.items()}
        return type(value)(self.of(entry, depth) for entry in value)
