"""Judges what a model has learned by classifying pictures (DeLVM's ImageNet probe)."""
