"""The HTTP application, the hub of agents and calls, and the command line."""
