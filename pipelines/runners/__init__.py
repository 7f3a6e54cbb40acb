"""The job on Beam: options, workers, and how a run ends, here and on clusters."""
