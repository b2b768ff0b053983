"""The one error of a mesh file: where it stands and what is wrong with it."""


class MeshError(Exception):
    """A mesh file that cannot be used. The text is one line: file, line, cause. ``line`` 0: the file as a whole."""

    def __init__(self, file: str, line: int, cause: str) -> None:
        self.file, self.line, self.cause = file, line, " ".join(cause.split())
        super().__init__(f"{file}:{line}: {self.cause}" if line else f"{file}: {self.cause}")
