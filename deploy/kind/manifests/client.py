"""client.py HOST PORT COUNT: connect COUNT times, one after the other, and print how many each cluster answered."""

import socket
import sys
from collections import Counter

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers = Counter()
for _ in range(count):
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(b"hello\n")
            answers[connection.recv(64).decode().strip() or "failed"] += 1
    except OSError:
        answers["failed"] += 1
for answer, number in sorted(answers.items()):
    print(answer, number)
