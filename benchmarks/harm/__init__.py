"""What ``faults.py`` does harm with: jobs, faults, and whether two folders hold the same."""
