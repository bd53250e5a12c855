"""Files of one kind: NIfTI volumes, PNG and TIFF pictures."""
