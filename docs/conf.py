"""Sphinx's configuration."""

project = "jaxmeta"
copyright = "the jaxmeta authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "jaxmeta"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # the fields of a NamedTuple are documented once, by "Attributes"
napoleon_custom_sections = [("Source", "notes")]


def setup(app):
    # The fields of a NamedTuple stand under "Attributes"; autodoc adds "Alias for field number 0".
    def skip(app, what, name, thing, skipped, options):
        return True if type(thing).__name__ == "_tuplegetter" else None

    app.connect("autodoc-skip-member", skip)
