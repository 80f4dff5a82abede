"""The studies of the paper's claims, by what they need."""
