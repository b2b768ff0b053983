"""What a client said, and which filter chain that means: parsers over bytes, compiled routes. Knows no socket."""
