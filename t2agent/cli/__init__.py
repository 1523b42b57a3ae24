"""The command line: ``t2agent`` and ``python -m t2agent``. One file a command.

Exit codes: 0; 1 for an error (one line on stderr, a traceback only with ``--debug``); 2 for wrong
usage; 130 when interrupted. ``--json`` prints JSON and nothing else on stdout.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with ``args`` (those of the process if not given), and exit."""
    import gc

    from t2agent.cli.app import app
    from t2agent.cli.start import quiet

    quiet()
    try:
        app(args, prog_name="t2agent")
    finally:
        gc.unfreeze()  # what `start.starting` kept: libraries complain of what outlives them
