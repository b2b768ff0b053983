"""What has happened to traffic, and why: a bounded memory of events, and what makes them."""
