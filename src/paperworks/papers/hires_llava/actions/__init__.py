"""The actions of the recipe: probe, benchmark (entitygrid), classify, tune (train)."""
