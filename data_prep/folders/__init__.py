"""Your own images and masks: matched by name, checked, and written as a prepared folder."""
