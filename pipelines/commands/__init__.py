"""The commands of `visent tokenize`: the options that all have, and one module per kind of source."""
