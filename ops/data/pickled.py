"""A reader of pickled dicts of arrays that runs nothing; CIFAR-10's Python version is such a file.

Unpickling can call any function, so no unpickler is used.  `pickletools.genops` of the standard
library takes the file apart into opcodes without acting on them; this module keeps a stack of plain
numbers, strings, lists and dicts, and where the pickle wants a function called it only writes down
its name and arguments (`Call`).  An opcode outside the few that such files need is an error.
"""
import io
import pickletools
import struct

import numpy as np

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE",
             "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = {"PROTO", "FRAME", "STOP"}
ARRAY = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
DTYPE, ENCODE = "numpy dtype", "_codecs encode"
MARK = object()


class Call:
    """What the pickle wanted called: `function`, "module name" or anything, with `arguments`; and
    the `state` it wanted the result to take."""

    def __init__(self, function, arguments):
        self.function, self.arguments, self.state = function, arguments, None


def read_pickled_dict(raw):
    """bytes of a pickle, protocol 2 to 4 -> dict of its string keys, as str.

    Values are numbers, str, bytes, lists, tuples, dicts and `Call`s; strings of Python 2 are str
    of the characters 0-255.  Nothing named in the file is imported or called.
    Raises ValueError, in one line, for anything else.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(raw)):
            machine.take(opcode.name, argument)
        (result,) = machine.stack
        if not isinstance(result, dict):
            raise ValueError("it holds no dict")
        return {_text(key): value for key, value in result.items()}
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, MemoryError,
            struct.error) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def pickled_bytes(value):
    """A noted array of unsigned bytes [n, m], as it stands in a pickle -> uint8 array.

    Raises ValueError if `value` is anything else, is stored in Fortran order, or is cut short.
    """
    if not isinstance(value, Call) or value.function not in ARRAY:
        raise ValueError("it holds no NumPy array in the plain form")
    try:
        version, shape, dtype, fortran, content = value.state
        kind = dtype.arguments[0] if dtype.function == DTYPE else None
        kind = kind.decode() if isinstance(kind, bytes) else kind
        rows, columns = shape
        whole = all(type(number) is int and number >= 0 for number in shape)
    except (TypeError, ValueError, AttributeError, LookupError):
        raise ValueError("its array has no plain form of two dimensions") from None
    if kind not in ("u1", "|u1", "uint8") or fortran or version != 1 or not whole:
        raise ValueError("its array is not of uint8 in rows")
    content = _content(content)
    if len(content) != rows * columns:
        raise ValueError(f"its array of {rows}x{columns} has {len(content)} bytes")
    return np.frombuffer(content, np.uint8).reshape(rows, columns)


def _content(value):
    """bytes as protocols spell them: bytes, a Python 2 string, or a noted encode(str, "latin1")."""
    if isinstance(value, Call) and value.function == ENCODE and len(value.arguments) == 2:
        value = value.arguments[0]
    if isinstance(value, str):
        value = value.encode("latin1")
    if not isinstance(value, bytes):
        raise ValueError("its array has no bytes")
    return value


def _text(key):
    if isinstance(key, Call) and key.function == ENCODE:
        key = key.arguments[0]
    if isinstance(key, bytes):
        return key.decode("ascii")
    if not isinstance(key, str):
        raise ValueError("a key is no string")
    return key


class _Machine:
    """The stack and the memo that a pickle's opcodes work on."""

    def __init__(self):
        self.stack, self.memo = [], {}

    def take(self, name, argument):
        """Act on one opcode; ValueError or LookupError if it does not fit."""
        stack = self.stack
        if name in ARGUMENTS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            stack.append(MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in TUPLES:
            stack.append(tuple(self._pop(TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            list.extend(stack[-1], values)
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self._pop(2) if name == "SETITEM" else self._pop_to_mark())
        else:
            self._note(name, argument)

    def _note(self, name, argument):
        """Opcodes that name, call or fill something: noted, never done."""
        stack = self.stack
        if name == "GLOBAL":  # genops gives "module name"
            stack.append(Call(argument, ()))
        elif name == "STACK_GLOBAL":
            stack.append(Call(" ".join(self._pop(2)), ()))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(Call(function.function, tuple(arguments)))
        elif name == "BUILD":
            (state,) = self._pop(1)
            stack[-1].state = state
        elif name not in NOTHING:
            raise ValueError(f"it uses the opcode {name}, which a dict of arrays does not need")

    def _pop(self, n):
        if len(self.stack) < n or any(value is MARK for value in self.stack[-n:]):
            raise ValueError("its stack runs empty")
        values = self.stack[-n:]
        del self.stack[-n:]
        return values

    def _pop_to_mark(self):
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:  # IndexError before the first: no mark
            at -= 1
        values = self.stack[at + 1:]
        del self.stack[at:]
        return values

    def _set_items(self, values):
        keys = values[::2]
        if len(values) % 2 or not all(isinstance(key, (str, bytes, Call)) for key in keys):
            raise ValueError("a dict's keys are no strings")
        dict.update(self.stack[-1], zip(keys, values[1::2]))
