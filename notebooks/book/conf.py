"""The book: one static site from the executed notebooks (`make book`), without any request outside.

The source folder of Sphinx is the repository, because notebooks link figures and tables beside
them; this folder holds the settings, the pages that no notebook is, and two small extensions.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

project = "noisyseg"
author = "noisyseg contributors"
copyright = "noisyseg contributors"
html_title = "noisyseg"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "directives", "formulas"]
root_doc = "notebooks/book/index"
include_patterns = [
    "notebooks/book/*.md",
    "notebooks/[0-9][0-9]_*.ipynb",
    "figures/README.md",
    "data_prep/README.md",
]
# Never walked: gigabytes that hold no page.
exclude_patterns = [".*", "data", "runs", "build", "dist", "**/.ipynb_checkpoints"]

# Notebooks are shown as they are stored; a cell tagged hide-cell or hide-input is folded.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {}  # else every page asks a network for two scripts
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

# Docstrings write code between single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_use_legacy_class_based = False
maximum_signature_line_length = 72
add_module_names = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["book.css"]
html_extra_path = ["index.html"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
    "navigation_with_keys": True,
}
