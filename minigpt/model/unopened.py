"""What a checkpoint's file is made of, looked at before and after it is opened: whoever wrote it, nothing in it is
executed, takes much more memory than the file is long, or keeps the program from ending.

with path.open("rb") as file:
    inspect(file)                       # raises Refused or Damaged
payload = plain(torch.load(...), path.stat().st_size)
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

# Everything that `torch.save` of numbers, texts and tensors in lists and dictionaries names.
_NAMED = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch [A-Za-z0-9]+Storage")
# What puts a plain value on the pickle machine's stack.
_PLAIN = frozenset(
    [
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINSTRING",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
    ]
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LARGEST_PICKLE_BYTES = 1 << 29
_MOST_INSTRUCTIONS = 1_000_000
# A tuple may hold another one many times over: what is done with it, such as hashing, takes as long as it is wide.
_WIDEST_TUPLE = 1000
_DEEPEST = 50
_MOST_VALUES = 1_000_000
# Tied weights stand in a checkpoint twice, and once in the file.
_COPIES = 2


class Refused(Exception):
    """A file that holds what a checkpoint never does: names of programs, traps for memory or time."""


class Damaged(Exception):
    """A file that is no whole checkpoint."""


def inspect(file: BinaryIO) -> None:
    """Look at a file before torch opens it; raises Refused, Damaged or what `zipfile` raises."""
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if not members or len({member.filename.lower() for member in members}) < len(members):
            raise Damaged("two of its parts have one name")
        # Else what torch reads might be another archive than the one looked at.
        if min(member.header_offset for member in members) > 0:
            raise Damaged("it does not begin with its first part")
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise Refused("it is a program, as torch.jit.save writes them")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Refused("it is packed, which a checkpoint never is")
        if sum(member.file_size for member in members) > size:
            raise Damaged("its parts are said to be larger than the file")
        pickled = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickled) != 1 or pickled[0].file_size > _LARGEST_PICKLE_BYTES:
            raise Damaged("its description is missing or too large")
        _inspect_pickle(archive.read(pickled[0]))


def _inspect_pickle(data: bytes) -> None:
    """Go through a pickle's instructions without doing any of them; raises Refused and Damaged."""
    stack: list[int] = []  # how wide each value is: 1, or what a tuple's members are together
    outer: list[list[int]] = []
    memo: dict[int, int] = {}
    try:
        for count, (operation, given, _) in enumerate(pickletools.genops(data)):
            name, argument = operation.name, cast(Any, given)
            if count > _MOST_INSTRUCTIONS:
                raise Refused("its description is endless")
            if name in _PLAIN:
                stack.append(1)
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "GLOBAL":
                if not _NAMED.fullmatch(argument):
                    raise Refused(f"it names {argument[:100]}")
                stack.append(1)
            elif name == "MARK":
                outer.append(stack)
                stack = []
            elif name in ("APPENDS", "SETITEMS"):
                stack = outer.pop()
            elif name == "TUPLE":
                width = 1 + sum(stack)
                stack = outer.pop()
                stack.append(width)
            elif name in _TUPLES:
                stack[-_TUPLES[name] :] = [1 + sum(stack[-_TUPLES[name] :])]
            elif name in ("REDUCE", "APPEND", "BUILD"):
                del stack[-1]
            elif name == "SETITEM":
                del stack[-2:]
            elif name not in ("PROTO", "STOP", "BINPERSID"):
                raise Refused(f"it has the instruction {name}")
            if stack and stack[-1] > _WIDEST_TUPLE:
                raise Refused("it holds the same thing over and over")
    except (LookupError, ValueError) as error:
        raise Damaged("its description cannot be read") from error


def plain(value: Any, file_bytes: int) -> Any:
    """Return what torch read as plain containers of plain values; raises Refused where it is anything else, is deeper
    or more than a checkpoint ever holds, or its tensors would take more memory than a file of so many bytes has.
    """
    return _Plain(_COPIES * file_bytes).of(value)


class _Plain:
    def __init__(self, bytes_left: int) -> None:
        self._bytes_left = bytes_left
        self._values_left = _MOST_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self._values_left -= 1
        if depth > _DEEPEST or self._values_left < 0:
            raise Refused("it holds lists within lists without end")
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        if type(value) is Tensor:
            return self._tensor(value)
        # Of the classes themselves: an object's own methods may be anything.
        if isinstance(value, dict):
            return {self._key(key): self.of(item, depth + 1) for key, item in dict.items(value)}
        if type(value) is list:
            return [self.of(item, depth + 1) for item in value]
        if type(value) is tuple:
            return tuple(self.of(item, depth + 1) for item in value)
        raise Refused(f"it holds a {type(value).__name__}")

    def _key(self, key: Any) -> Any:
        if type(key) not in (str, int):
            raise Refused(f"it names something by a {type(key).__name__}")
        return key

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise Refused("it holds numbers that are not simply stored")
        size = tensor.numel() * tensor.element_size()
        self._bytes_left -= size
        if size > tensor.untyped_storage().nbytes() or self._bytes_left < 0:
            raise Refused("its numbers are said to be many more than are in the file")
        return tensor.detach()
