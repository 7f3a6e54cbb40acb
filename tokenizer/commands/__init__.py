"""One file for each command of `visent tokenizer`."""
