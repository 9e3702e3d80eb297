"""Training of DeepSplit weights from annotated images (paper, section 3). Imports deepsplit_core, never the reverse."""
