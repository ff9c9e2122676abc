"""Ways to spoil bytes, texts, JSON and folders; each takes the random numbers it draws from."""

from __future__ import annotations

import copy
import json
import re
import shutil
import struct
from pathlib import Path
from random import Random

NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 15, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40),
    *(2**63 - 1, 2**64 - 1),
)
WORDS = (
    *(
        b"",
        b"..",
        b"../../etc/passwd",
        b"/etc/passwd",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"\xed\xa0\x80",
    ),
    *(
        b"\0",
        b"'); DROP TABLE x; --",
        b"<!ENTITY a 'b'>",
        b"!!python/object/apply:os.system [touch x]",
    ),
    *(b"&a [*a, *a]", b"*a", b"9" * 5000, b"-" * 99, b"{" * 300, b"[" * 3000, b"0x" + b"f" * 4000),
)
_TOLD = re.compile(rb"-?\d+")
VALUES = (
    *(None, True, -1, 0, 1, 2**31, 2**70, -(2**70), 0.5, 1e308, float("nan"), float("inf")),
    *("", "..", "../../x", "/etc/passwd", "\ud800", "a\0b", "x" * 4000, [], {}, [[]], [None] * 50),
)


def spoiled_bytes(data: bytes, draw: Random) -> bytes:  # noqa: C901 - a case a way
    """One to eight changes anywhere, the head more often than the rest."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        if not out:
            break
        end = min(len(out), 600) if draw.random() < 0.6 else len(out)
        place = draw.randrange(end)
        match draw.randrange(10):
            case 0:
                out[place] = draw.randrange(256)
            case 1:
                del out[place:]
            case 2:
                out[place:place] = draw.randbytes(draw.randrange(1, 40))
            case 3:
                del out[place : place + draw.randrange(1, 40)]
            case 4:
                form = draw.choice(("<H", "<I", "<Q", ">H", ">I", ">Q"))
                number = struct.pack(form, draw.choice(NUMBERS) % 256 ** struct.calcsize(form))
                out[place : place + len(number)] = number
            case 5:
                # An offset that points back: to a directory, or into the file.
                out[place : place + 4] = struct.pack("<I", draw.randrange(end))
            case 6:
                other, size = draw.randrange(end), draw.randrange(1, 64)
                a, b = bytes(out[place : place + size]), bytes(out[other : other + size])
                out[place : place + size], out[other : other + size] = b, a
            case 7:
                out[place : place + 1] = draw.choice(WORDS)
            case 8:
                _retell(out, place, draw)
            case _:
                out[place : place + 40] = draw.choice((b"\0", b"\xff")) * 40
    return bytes(out)


def _retell(out: bytearray, place: int, draw: Random) -> None:
    """Another number in place of the next that is written in digits, in most cases as long."""
    match = _TOLD.search(out, place)
    if match is None:
        return
    number = b"%d" % draw.choice((-1, *NUMBERS))
    if draw.random() < 0.6:
        length = len(match[0])
        number = draw.choice((b"9" * length, b"0" * length, b"-" + b"1" * length, number))
        number = number[:length].rjust(length, b"0")
    out[match.start() : match.end()] = number


def spoiled_json(data: bytes, draw: Random) -> bytes:
    """A value somewhere in the tree replaced, dropped or doubled; at times the text itself."""
    if draw.random() < 0.25:
        return spoiled_bytes(data, draw)
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):  # spoiled before
        return spoiled_bytes(data, draw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        spots: list[tuple[object, object]] = []
        _collect(tree, spots)
        if not spots or len(spots) > 2000:
            break
        holder, key = draw.choice(spots)
        if draw.random() < 0.15:
            del holder[key]  # type: ignore[attr-defined]
        else:
            holder[key] = _other(holder[key], draw)  # type: ignore[index]
    return json.dumps(tree).encode()


def _collect(tree: object, spots: list[tuple[object, object]]) -> None:
    keys = (
        tree.keys() if isinstance(tree, dict) else range(len(tree) if isinstance(tree, list) else 0)
    )
    for key in keys:
        spots.append((tree, key))
        _collect(tree[key], spots)  # type: ignore[index]


def _other(value: object, draw: Random) -> object:
    if isinstance(value, (int, float)) and draw.random() < 0.5:
        return draw.choice((-value, value * 1000, value + 1, 10**9, 10**12, value / 3))
    if isinstance(value, list) and value and draw.random() < 0.3:
        return copy.deepcopy(draw.choice((value * 200, value[:-1], [value], value[::-1])))
    if draw.random() < 0.05:
        deep: object = 0
        for _ in range(150):
            deep = [deep]
        return deep
    return copy.deepcopy(draw.choice(VALUES))


def spoil_folder(folder: Path, outside: Path, draw: Random) -> None:
    """Change, remove, double or link a file of a folder; links may lead to the file `outside`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    jsons = {path for path in files if path.suffix == ".json" or path.name.startswith(".z")}
    documents = [path for path in files if path in jsons or path.suffix in (".ini", ".vms")]
    for _ in range(draw.choice((1, 1, 2))):
        path = draw.choice(documents if documents and draw.random() < 0.6 else files)
        # What the first change has linked is left so: to write would change what lies behind.
        if not _is_plain(path):
            continue
        match draw.randrange(11):
            case 0:
                path.unlink()
            case 1:
                path.unlink()
                path.symlink_to(draw.choice((outside, "/dev/zero", path.name, "..")))
            case 2:
                shutil.rmtree(path.parent) if path.parent != folder else path.write_bytes(b"")
            case 3:
                other = draw.choice(files)
                path.write_bytes(other.read_bytes() if _is_plain(other) else b"")
            case 4:
                path.unlink()
                path.mkdir()
            case _:
                data = path.read_bytes()
                path.write_bytes((spoiled_json if path in jsons else spoiled_bytes)(data, draw))


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
