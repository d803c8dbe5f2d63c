"""Start a process and measure it.

Usage: launch.py COMMAND ARGUMENT... It prints the seconds to the first byte that the process writes and to its end, its
CPU seconds (user and system), its peak memory in KiB, and its exit status.

It runs without site, to stay small: on Linux the peak memory of a new process begins with that of its parent.
"""

import os
import sys
import time

reading, writing = os.pipe()
began = time.perf_counter()
pid = os.posix_spawn(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, 0)]
)
os.close(writing)
os.read(reading, 1)
has_secret = time.perf_counter() - began
while os.read(reading, 4096):
    pass
_, status, usage = os.wait4(pid, 0)
ended = time.perf_counter() - began
print(has_secret, ended, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, status)
