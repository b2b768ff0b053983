"""What a running proxy shows of itself: pages, statistics, dumps, and the ports that serve them."""
