"""The OpenAI-compatible server and its playground; needs the extra ``server``."""
