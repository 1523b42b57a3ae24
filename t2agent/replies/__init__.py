"""What a reply must look like, and how it is read back: formats of tool calls, JSON by a schema.

How models are told of tools, how they write their calls, and how calls are read; a constraint holds
while tokens are chosen, so that even an untrained model's call parses. No torch.
"""
