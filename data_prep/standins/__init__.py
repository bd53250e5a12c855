"""Made-up lesions in real anatomy, where the official archives are absent."""
