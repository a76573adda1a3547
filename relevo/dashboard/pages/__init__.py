"""The dashboard's pages, a module each, named as its url."""
