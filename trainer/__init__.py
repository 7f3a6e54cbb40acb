"""Trains autoregressive vision models on visual sentences, and generates images with them."""
