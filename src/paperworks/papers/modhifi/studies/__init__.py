"""Studies of the paper's claims, by what they run on."""
