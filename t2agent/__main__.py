"""``python -m t2agent``: the command line."""

from __future__ import annotations

from t2agent.cli import main

if __name__ == "__main__":
    main()
