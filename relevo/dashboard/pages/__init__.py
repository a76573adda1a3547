"""The dashboard's pages: a module for each, with the actions that are done on it."""
