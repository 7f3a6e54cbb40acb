"""Measures what a model has learned, on rows that training never reads."""
