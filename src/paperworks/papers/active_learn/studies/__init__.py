"""The studies, by kind: exact values, trained policies on small games, real data."""
