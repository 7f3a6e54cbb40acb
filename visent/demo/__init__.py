"""The whole of visent on real media, small, with a report."""
