"""The pipes between `sandbox` and a process: what it is to read, and what it says, bounded."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress


class Streams:
    """The pipes to a process: what it is to read, and what it says, no more than the limit."""

    def __init__(
        self, process: subprocess.Popen[bytes], job: bytes, report: int, output: int
    ) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self.texts = (bytearray(), bytearray(), bytearray())  # out, err, the report
        self._limits = (output, output, 1000)
        self._job = memoryview(job)
        self._files = (process.stdin, process.stdout, process.stderr, os.fdopen(report, "rb", 0))
        self._selector = selectors.DefaultSelector()
        for file in self._files:
            os.set_blocking(file.fileno(), False)
        self._selector.register(process.stdin, selectors.EVENT_WRITE, self._give)
        for index, file in enumerate(self._files[1:]):
            self._selector.register(file, selectors.EVENT_READ, self._taker(index))

    def pump(self, deadline: float) -> str:
        """Read and write until the report is there; the limit that was broken before, if any."""
        while not self._over():
            left = deadline - time.monotonic()
            if left <= 0:
                return "time"
            for key, _ in self._selector.select(left):
                key.data()
            if self.texts[2] or self._report not in self._selector.get_map():
                return ""
        return "output"

    def drain(self) -> None:
        """What is left in the pipes, of processes that have ended."""
        while not self._over():
            ready = self._selector.select(0)
            if not ready:
                return
            for key, _ in ready:
                key.data()

    def close(self) -> None:
        """Free the pipes."""
        self._selector.close()
        for file in self._files:
            with suppress(OSError):
                file.close()

    @property
    def _report(self) -> object:
        return self._files[3]

    def _over(self) -> bool:
        return any(len(self.texts[i]) > self._limits[i] for i in (0, 1))

    def _give(self) -> None:
        try:
            self._job = self._job[os.write(self._files[0].fileno(), self._job) :]
        except BlockingIOError:
            return
        except OSError:
            self._job = self._job[:0]
        if not self._job:
            self._selector.unregister(self._files[0])
            self._files[0].close()

    def _taker(self, index: int) -> Callable[[], None]:
        file = self._files[1 + index]

        def take() -> None:
            try:
                data = os.read(file.fileno(), 2**16)
            except BlockingIOError:
                return
            if data:
                room = max(0, self._limits[index] + 1 - len(self.texts[index]))
                self.texts[index].extend(data[:room])
            else:
                self._selector.unregister(file)

        return take
