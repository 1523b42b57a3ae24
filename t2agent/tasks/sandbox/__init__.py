"""Code that a model has written runs here: in a process of its own, without a network, within limits."""
