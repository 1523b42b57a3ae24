"""What the tools in ``tools/`` share: errors as content, numbers, dates and the image at hand.

For whoever writes a tool, too: `t2agent.tooling.content.content_tool` makes one whose mistakes
come back as content.
"""
