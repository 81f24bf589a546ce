"""The command line as a user meets it: processes, exit status, streams, signals, and a terminal."""
