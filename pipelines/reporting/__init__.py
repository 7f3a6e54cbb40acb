"""`visent report`: a dataset as one page of HTML."""
