from asecretcache._timer import FetchTimer, fetch_timer

__all__ = ["FetchTimer", "fetch_timer"]
