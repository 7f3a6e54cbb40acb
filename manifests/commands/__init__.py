"""Commands on manifests, one file each."""
