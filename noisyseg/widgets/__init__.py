"""Explorers to play with in JupyterLab or Voila: each function returns one widget."""
