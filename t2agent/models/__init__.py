"""The base model: load, adapt, prompt, generate, score, exchange with other formats."""
