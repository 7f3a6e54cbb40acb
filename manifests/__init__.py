"""The contract on disk: rows, shards, dataset facts, manifests, locks, and the reader that composes sentences."""
