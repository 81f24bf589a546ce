"""The durable ledger: its file, the client over it, and what is left when a process is killed."""
