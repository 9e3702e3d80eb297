"""The systems of the paper's Tables 1 and 2, trained and measured on open images (paper, section 4)."""
