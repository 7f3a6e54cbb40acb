"""Run the command line with `python -m visent`."""

from visent.cli import main

main()
