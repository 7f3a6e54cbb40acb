"""What a job takes, before it runs: a probe, prices and a simulation."""
