"""How models are told of tools, how they write their calls, and how calls are read."""
