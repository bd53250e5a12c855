"""Four radiologists' outlines of lung nodules: real scans, or rendered pictures under them."""
