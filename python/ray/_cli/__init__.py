"""The commands of the program ``ray``: one file a command."""
