"""Singular value fine-tuning: bases of weights, the transform around a layer, caches."""
