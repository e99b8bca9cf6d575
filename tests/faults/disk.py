"""What a disk may hold after a power loss: the order of a process's file operations, and every state they may leave.

By POSIX, what was written is there for sure after an fsync of the file, and a name (made, moved, removed) after one of
its folder. Anything less may be lost, or be there without what came before it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# What is below a folder: a file's bytes and date (nanoseconds), or None for a folder; by relative path.
Tree = dict[str, "tuple[bytes, int] | None"]
# A change of names that happens as a whole: which file or folder (or none) a name in a folder then means.
Change = dict[tuple[int, str], "int | None"]

ROOT = 0


@dataclass
class Moment:
    """Just before one operation: what is safe on the disk, and what may or may not be."""

    label: str
    names: dict[tuple[int, str], int]  # (folder, name) -> file or folder, for sure
    changes: list[Change]  # since
    safe: dict[int, bytes]  # what files hold, for sure
    written: dict[int, tuple[bytes, int]]  # what they hold if all goes well, and when that was written
    promised: int  # the step of the last checkpoint of which the process has told; -1 before there is one


@dataclass
class Recording:
    """The moments of one process, in their order."""

    moments: list[Moment] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, work: Callable[[], int], into: Path) -> int:
        """Do the work and keep what it does below a folder in a file; the process is good for nothing more then."""
        recorder = _Recorder(folder)
        code = work()
        recorder.look("the end")
        recorder.stopped = True
        into.write_bytes(pickle.dumps(recorder.recording))
        return code

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read what `of` has kept: a file of our own."""
        found: Recording = pickle.loads(path.read_bytes())
        return found

    def losses(self, rng: random.Random, limit: int | None = None) -> Iterator[tuple[Moment, Tree]]:
        """Yield what the disk may hold if the power fails at any of the moments; each state once, so many at most."""
        seen: set[bytes] = set()
        found: list[tuple[int, list[Change], str]] = []
        for number, moment in enumerate(self.moments):
            found += [(number, chosen, how) for chosen in _choices(moment.changes) for how in CONTENTS]
        if limit is not None:
            rng.shuffle(found)
        for number, chosen, how in found:
            moment = self.moments[number]
            tree = _tree(moment, chosen, CONTENTS[how])
            # What was promised belongs to the state: the same files may be enough at one time and not at a later one.
            digest = hashlib.blake2b(repr((moment.promised, sorted(tree.items()))).encode(), digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                yield moment, tree
                if limit is not None and len(seen) == limit:
                    return


# What a file may hold of which `written` was not brought to the disk but for `safe`.
CONTENTS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "all": lambda safe, written: written,
    "what was safe": lambda safe, written: safe,
    "zeros": lambda safe, written: safe + bytes(max(0, len(written) - len(safe))),
    "half": lambda safe, written: written[: max(len(safe), len(written) // 2)],
}


def lay_out(tree: Tree, folder: Path) -> None:
    """Make the files of a state below a folder that is empty."""
    for name, file in sorted(tree.items()):
        path = folder / name
        if file is None:
            path.mkdir()
        else:
            path.write_bytes(file[0])
            os.utime(path, ns=(file[1], file[1]))


def _choices(changes: list[Change]) -> Iterator[list[Change]]:
    """Yield which changes reach the disk: the first so many, one alone, or all but one."""
    for count in range(len(changes) + 1):
        yield changes[:count]
    for number in range(len(changes)):
        yield changes[number : number + 1]
        yield changes[:number] + changes[number + 1 :]


def _tree(moment: Moment, changes: list[Change], content: Callable[[bytes, bytes], bytes]) -> Tree:
    names: dict[tuple[int, str], int | None] = dict(moment.names)
    for change in changes:
        names.update(change)
    inside: dict[int, list[tuple[str, int]]] = {}
    for (folder, name), number in names.items():
        if number is not None:
            inside.setdefault(folder, []).append((name, number))
    tree: Tree = {}
    waiting = [("", ROOT)]
    while waiting:
        above, folder = waiting.pop()
        for name, number in inside.get(folder, []):
            path = f"{above}{name}"
            if number in moment.written:
                written, date = moment.written[number]
                tree[path] = content(moment.safe.get(number, b""), written), date
            else:
                tree[path] = None
                waiting.append((f"{path}/", number))
    return tree


class _Recorder:
    """Looks at a folder before every operation of this process in it."""

    def __init__(self, folder: Path) -> None:
        from tests.faults.mortal import Watched

        self.folder, self.recording, self.stopped = folder, Recording(), False
        self._lock = threading.RLock()
        self._looking = False
        self._numbers: dict[int, int] = {folder.stat().st_ino: ROOT}
        self._next = ROOT + 1
        self._same: dict[bytes, bytes] = {}
        self._promised = -1
        names, written = self._walk()
        # What was there before is safe.
        self._before, self._names = dict(names), dict(names)
        self._safe = {number: content for number, (content, _) in written.items()}
        self._gone: dict[int, tuple[bytes, int]] = dict(written)
        self._changes: list[Change] = []
        watched = Watched(folder, lambda label: None if " write " in label else self.look(label))
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            fsync(descriptor)
            self._after_sync(descriptor)

        def told(descriptor: int, data: bytes) -> int:
            # The whole of it at once, or the promise would come before the words.
            written = watched._write(descriptor, data)
            for step in re.findall(rb'"type":"checkpoint".*?"step":(\d+)', bytes(data)):
                self._promised = int(step)
            return written

        os.fsync, os.write = synced, told  # type: ignore[assignment]

    def look(self, label: str) -> None:
        """Note how all stands."""
        with self._lock:
            # In looking we do what we look for.
            if self._looking or self.stopped:
                return
            self._looking = True
            try:
                names, written = self._walk()
                changed = names.keys() | self._before.keys()
                change: Change = {
                    key: names.get(key) for key in sorted(changed) if names.get(key) != self._before.get(key)
                }
                if change:
                    self._changes.append(change)
                    self._before = names
                # A file that has lost its last name may have it again after a power loss.
                self._gone.update(written)
                self.recording.moments.append(
                    Moment(
                        label,
                        dict(self._names),
                        list(self._changes),
                        dict(self._safe),
                        dict(self._gone),
                        self._promised,
                    )
                )
            finally:
                self._looking = False

    def _after_sync(self, descriptor: int) -> None:
        self.look("fsync is done")
        with self._lock:
            number = self._numbers.get(os.fstat(descriptor).st_ino)
            if number is None:
                return
            if number in self._gone:
                self._safe[number] = self._gone[number][0]
                return
            waiting = []
            for change in self._changes:
                if any(folder == number for folder, _ in change):
                    for key, meant in change.items():
                        if meant is None:
                            self._names.pop(key, None)
                        else:
                            self._names[key] = meant
                else:
                    waiting.append(change)
            self._changes = waiting

    def _walk(self) -> tuple[dict[tuple[int, str], int], dict[int, tuple[bytes, int]]]:
        names: dict[tuple[int, str], int] = {}
        written: dict[int, tuple[bytes, int]] = {}
        alive = {self.folder.stat().st_ino}
        waiting = [(str(self.folder), ROOT)]
        while waiting:
            path, folder = waiting.pop()
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    found = entry.stat(follow_symlinks=False)
                    if found.st_ino not in alive and found.st_ino not in self._numbers:
                        self._numbers[found.st_ino] = self._next
                        self._next += 1
                    alive.add(found.st_ino)
                    number = names[folder, entry.name] = self._numbers[found.st_ino]
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, number))
                    else:
                        content = Path(entry.path).read_bytes()
                        written[number] = self._same.setdefault(content, content), found.st_mtime_ns
        # The system gives the number of a file that is gone to the next one.
        for inode in self._numbers.keys() - alive:
            del self._numbers[inode]
        return names, written
