"""The native loop: sockets, phases of a connection, relay, and what the control side hands to it.

Alone knows descriptors.
"""
