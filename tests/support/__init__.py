"""What tests share: fakes, simulated accounts, processes, browsers."""
