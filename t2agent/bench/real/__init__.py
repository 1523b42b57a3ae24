"""A real base model and its experts on real data: ``t2agent bench real``."""
