"""What goes wrong in a way that one sentence can say."""


class LabError(Exception):
    """One line for whoever runs the lab: what failed, where, and the likely cause."""
