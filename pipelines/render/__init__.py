"""Annotations drawn as pictures, and read back from them: one module per kind."""
