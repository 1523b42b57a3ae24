"""The makers of problems, one module a domain."""
