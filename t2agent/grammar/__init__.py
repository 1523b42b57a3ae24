"""Constrained decoding by xgrammar: tool calls in a model's own format, and JSON by a schema.

A constraint holds while tokens are chosen, so that even an untrained model's call parses.
"""
