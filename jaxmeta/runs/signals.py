"""Stopping a run by a signal, at a moment when it can be saved."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """Ends the program when there is nothing to save."""
    # At once, not by an exception, which may crash the compiler. And without print: the signal may
    # have arrived in the middle of one.
    os.write(
        2, f"\nStopped by {signal.Signals(number).name}: run the same command again.\n".encode()
    )
    os._exit(128 + number)


class Interruption:
    """Notes SIGTERM and SIGINT, so that the loop of a ``with`` block can save before it stops.

    Signals only reach the main thread: in another one, nothing is noted.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        caught = signal.Signals(number)
        # With no call in between, where the next signal could be handled before this one is noted.
        before, self.signal = self.signal, caught
        if before is not None:
            # As if it were not noted here: a program stops at once, a notebook gets
            # KeyboardInterrupt.
            former = self._former[caught]
            if callable(former):
                former(number, frame)
            else:
                signal.signal(number, former)
                signal.raise_signal(number)
        os.write(2, b"\nSaving after the steps under way; once more to stop without.\n")
