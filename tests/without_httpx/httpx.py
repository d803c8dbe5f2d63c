"""Stands before httpx on the path of the processes that tests start: a function's package has none.

The SDK imports httpx wherever that is installed, and httpx imports rich.
"""

raise ModuleNotFoundError("No module named 'httpx'", name="httpx")
