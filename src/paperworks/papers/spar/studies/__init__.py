"""Studies of the paper's claims."""
