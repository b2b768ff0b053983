"""What a running proxy writes: journal, last good configuration, access log."""
