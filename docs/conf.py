"""How Sphinx builds the documentation. It builds without a network."""

from __future__ import annotations

from chinook_sim import __version__

project = "chinook_sim"
project_copyright = "the authors of chinook_sim"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build"]

smartquotes = False  # `--once` in a help text is an option, not a dash

html_theme = "furo"
html_title = f"chinook_sim {__version__}"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# `name` in a docstring is code.
default_role = "literal"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"

# No inventory of another project is fetched, so what is not ours has no target. Our own modules
# are documented by what can be imported from `chinook_sim`.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!chinook_sim).*"),
    (r"py:.*", r"chinook_sim\..*\..*"),
]
# An example in JSON or SQL may have an ellipsis.
suppress_warnings = ["misc.highlighting_failure"]
