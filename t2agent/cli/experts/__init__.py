"""``t2agent experts``: what people do with experts, one file a subject."""

from __future__ import annotations

import typer

from t2agent.cli.command import add_commands
from t2agent.cli.experts import (
    blend,
    diff,
    evaluate,
    exporting,
    hub,
    importing,
    new,
    registry,
    transfer,
)

experts = typer.Typer(help="Experts: list, make, share and take elsewhere.", no_args_is_help=True)

add_commands(
    experts,
    {
        "list": registry.list_experts,
        "show": registry.show,
        "add": registry.add,
        "remove": registry.remove,
        "eligible": registry.set_eligible,
        "push": hub.push,
        "pull": hub.pull,
        "new": new.new,
        "blend": blend.blend,
        "diff": diff.diff,
        "eval": evaluate.evaluate,
        "transfer": transfer.transfer,
        "export": exporting.export,
        "import": importing.import_expert,
    },
)
