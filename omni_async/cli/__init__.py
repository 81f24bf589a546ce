"""The command line: uses only what a user of the library may use. Needs the extra `cli`."""
