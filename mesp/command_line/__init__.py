"""The command line: it stands above all other packages, and none of them imports it."""
