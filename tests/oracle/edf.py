"""Envoy's earliest-deadline-first scheduler with its emulated pre-picks (edf_scheduler.h)."""

from collections.abc import Callable, Sequence

PICK_MODULUS = 429496729


class EdfScheduler:
    """Entries are numbers; deadlines are doubles, ties go to the older insertion."""

    def __init__(self) -> None:
        self.now = 0.0
        self.inserted = 0
        self.queue: list[tuple[float, int, int]] = []

    @classmethod
    def with_picks(cls, weights: Sequence[float], picks: int) -> "EdfScheduler":
        """As if `picks` picks (a seed) had been made already."""
        picks = (picks & 0xFFFFFFFF) % PICK_MODULUS
        scheduler = cls()
        augmented = [weight + 1e-13 for weight in weights]
        total = 0.0
        for weight in augmented:
            total += weight
        done = 0
        for number, weight in enumerate(augmented):
            floor = int(weight * picks / total)
            if floor > 0 and floor / weight >= picks / total:
                floor -= 1
            done += floor
            scheduler.queue.append(((floor + 1) / weight, number, number))
            scheduler.now = max(scheduler.now, floor / weight)
        scheduler.inserted = len(augmented)
        for _ in range(picks - done):
            scheduler.pick(weights.__getitem__)
        return scheduler

    def add(self, number: int, weight: float) -> None:
        """Insert an entry."""
        self.queue.append((self.now + 1.0 / weight, self.inserted, number))
        self.inserted += 1

    def pick(self, weight_of: Callable[[int], float]) -> int:
        """Take the front and put it back with the weight that it has now."""
        front = min(self.queue)
        self.queue.remove(front)
        self.now = front[0]
        self.add(front[2], weight_of(front[2]))
        return front[2]
