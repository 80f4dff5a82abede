"""Studies of the paper's claims, by the kind of pool."""
