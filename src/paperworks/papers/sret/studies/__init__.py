"""Studies of the claims: counts and identities; digits; sums of two digits; depth; resolution."""
