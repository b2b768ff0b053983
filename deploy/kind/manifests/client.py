"""client.py HOST PORT COUNT [--times]: connect COUNT times in a row, print how many each cluster answered.

With --times also `p50_ms` and `p99_ms`: from the first packet of a connection to its answer.
"""

import socket
import sys
import time
from collections import Counter

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers, times = Counter(), []
for _ in range(count):
    began = time.perf_counter()
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(b"hello\n")
            answers[connection.recv(64).decode().strip() or "failed"] += 1
            times.append(1000 * (time.perf_counter() - began))
    except OSError:
        answers["failed"] += 1
for answer, number in sorted(answers.items()):
    print(answer, number)
if "--times" in sys.argv and times:
    times.sort()
    for part in (50, 99):
        print(f"p{part}_ms", round(times[len(times) * part // 100], 3))
