"""Code that a model has written runs here: in its own process, sealed off, within limits."""
