"""The two passes: decide which experts answer, then answer under their mixture."""
