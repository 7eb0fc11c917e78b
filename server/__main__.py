"""``python -m server``: the command line without its installed script."""

from server.cli import main

main()
