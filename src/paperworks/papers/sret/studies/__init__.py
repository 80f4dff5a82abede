"""Studies of the claims: counts and identities; digits, depth and resolution; sums of two digits."""
