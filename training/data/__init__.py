"""Annotated images on disk: read, checked, mended, divided into those to learn from, to choose by and to test on."""
