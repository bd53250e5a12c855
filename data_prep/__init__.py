"""Preparation of raw archives: the only package that knows archives and file formats."""
