"""Texts that may be the beginning of another, as they are met at the end of a stream."""


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with, less than all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
