"""Pictures computed from pictures: one module per annotation."""
