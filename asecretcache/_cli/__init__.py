"""The command line: ``python -m asecretcache``. Nothing else of the package imports it."""
