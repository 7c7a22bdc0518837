"""How Sphinx builds the documentation. It builds without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from chinook_sim import __version__

sys.path.insert(0, str(Path(__file__).parent))
from command_reference import describe

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "chinook_sim"
project_copyright = "the authors of chinook_sim"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
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


class CommandReference(SphinxDirective):
    """The reference of a command: its usage, and its options in groups, each with examples.

    sphinx-click has neither groups nor examples, and shows click's mark for "no default" as one.
    """

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes in the directive's place."""
        try:
            lines = [*describe(" ".join(self.arguments), "\n".join(self.content))]
        except ValueError as error:
            raise self.error(str(error)) from None
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, "command"), self.content_offset, parent)
        return parent.children


def setup(app: Sphinx) -> None:
    """Add what is our own to Sphinx."""
    app.add_directive("command", CommandReference)
