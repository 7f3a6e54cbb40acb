"""Other projects' formats of token corpora, in and out: one file each."""
