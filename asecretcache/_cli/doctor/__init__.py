"""The command ``doctor``: tells in one run what is wrong with the role, the network or a secret's name."""
