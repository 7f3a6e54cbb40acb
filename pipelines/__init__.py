"""Media to shards of tokens: sources, annotators, augmentation and the Beam job."""
