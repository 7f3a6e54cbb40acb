"""The papers' evaluations: parts, prompts, generation, figures, and the table beside the papers' rows."""
