"""Explorers to play with in JupyterLab or Voila: each function returns one widget.

None of them trains on its own accord; `small_training` does when its button is pressed.
"""

try:
    import anywidget as _anywidget  # noqa: F401
    import ipywidgets as _ipywidgets  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the explorers need {error.name}; pip install 'noisyseg[notebooks]'", name=error.name
    ) from error

from noisyseg.widgets.annotate import next_annotator
from noisyseg.widgets.bake import book_fragments
from noisyseg.widgets.explorer import confusion_explorer, published_runs
from noisyseg.widgets.film import swap_film
from noisyseg.widgets.pixel import one_pixel
from noisyseg.widgets.skills import annotator_panel
from noisyseg.widgets.studio import annotator_studio
from noisyseg.widgets.training import small_training

__all__ = [
    "annotator_panel",
    "annotator_studio",
    "book_fragments",
    "confusion_explorer",
    "next_annotator",
    "one_pixel",
    "published_runs",
    "small_training",
    "swap_film",
]
