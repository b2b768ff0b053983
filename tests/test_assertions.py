"""Each test says what must be: one that only runs the code shows that nothing was raised, and no more."""

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
# Calls that fail a test by themselves; `expect` is that of pages.
JUDGING = {"pytest.raises", "pytest.fail", "pytest.warns", "expect", "asyncio.timeout"}
# Of helpers that belong to an object, or are not among the tests, these words begin the name: they fail when what they
# are given does not come true.
CONDITIONS = {"until", "wait", "answers", "settled"}


def judges(node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.Assert | ast.Raise) or (isinstance(one, ast.Call) and ast.unparse(one.func) in JUDGING)
        for one in ast.walk(node)
    )


class Module:
    """What is defined in a file of tests, and where its names come from."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.functions = [one for one in ast.walk(tree) if isinstance(one, FUNCTION)]
        # Name here: (last part of the module, name there).
        self.origins = {
            alias.asname or alias.name: ((one.module or "").rpartition(".")[2], alias.name)
            for one in ast.walk(tree)
            if isinstance(one, ast.ImportFrom)
            for alias in one.names
        }


def without_assertion(modules: dict[str, Module]) -> list[str]:
    """Tests that neither assert anything nor call a helper of the tests that does. `modules` by place."""
    judging: dict[str, set[str]] = defaultdict(set)

    def asks_somebody(place: str, function: ast.AST) -> bool:
        for call in (one for one in ast.walk(function) if isinstance(one, ast.Call)):
            name = ast.unparse(call.func).rpartition(".")[2]
            origin, there = modules[place].origins.get(name, (Path(place).stem, name))
            if name.split("_")[0] in CONDITIONS or (isinstance(call.func, ast.Name) and there in judging[origin]):
                return True
        return False

    def found() -> int:
        return sum(map(len, judging.values()))

    for place, module in modules.items():
        judging[Path(place).stem] |= {one.name for one in module.functions if judges(one)}
    before = -1
    while found() != before:
        before = found()
        for place, module in modules.items():
            judging[Path(place).stem] |= {one.name for one in module.functions if asks_somebody(place, one)}
    return [
        f"{place}:{one.lineno} {one.name}"
        for place, module in modules.items()
        for one in module.functions
        if one.name.startswith("test_") and one.name not in judging[Path(place).stem]
    ]


def test_each_test_says_what_must_be():
    modules = {str(path.relative_to(TESTS)): Module(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
    assert without_assertion(modules) == []


def test_one_that_only_runs_is_found():
    helper = Module("def held(what):\n    assert what\n\n\ndef made(what):\n    return what\n")
    tests = Module(
        "from .helper import held, made as built\n\n\n"
        "def judged(one):\n    held(one)\n\n\n"
        "def test_by_helper():\n    judged(built(1))\n\n\n"
        "def test_by_condition(place):\n    place.until(lambda: True)\n\n\n"
        "def test_that_runs():\n    built(1).close()\n"
    )
    assert without_assertion({"a/helper.py": helper, "a/test_it.py": tests}) == ["a/test_it.py:16 test_that_runs"]
