"""The programs of examples/ and the commands of the README, run as their reader would run them."""
