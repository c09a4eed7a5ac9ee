"""The command `kandle`: one file per command, with their checks and output beside them."""
