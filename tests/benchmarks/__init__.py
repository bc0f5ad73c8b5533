"""What the service costs, beside what the same work costs without it: `python3 dev.py bench`."""
