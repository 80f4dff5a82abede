"""The studies of the survey's claims."""
