"""What came of a run: scores, thresholds, a weights file, a report."""
