"""Experts: what one is, how they mix, where they lie and how they travel. Knows no model."""
