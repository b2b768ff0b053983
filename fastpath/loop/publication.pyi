from typing import final

@final
class Publication:
    """Keeps what was replaced until no worker can use it any more. Made by ClusterSlots; control side only."""
