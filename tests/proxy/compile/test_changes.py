"""Outcomes: the same input is not tried, and complained about, twice."""

from eastgate.proxy.compile.changes import Changes, Outcomes


def rejected(version: tuple[object, ...]) -> Changes:
    changes = Changes()
    changes.attempts["CDS", "a"] = version
    changes.reject("CDS", "a", "no good", kept=True)
    return changes


def test_same_input_was_rejected_and_another_was_not() -> None:
    outcomes, version = Outcomes(), object()
    outcomes.note(rejected((version, b"flags")))
    assert outcomes.rejected == {("CDS", "a"): "no good"}
    # Bytes are compared, resources are the same or another.
    assert outcomes.was_rejected("CDS", "a", (version, b"flags"))
    assert not outcomes.was_rejected("CDS", "a", (version, b"other"))
    assert not outcomes.was_rejected("CDS", "a", (object(), b"flags"))
    assert not outcomes.was_rejected("LDS", "a", (version, b"flags"))


def test_success_ends_a_rejection_and_so_does_leaving() -> None:
    outcomes, version = Outcomes(), (object(),)
    outcomes.note(rejected(version))
    good = Changes()
    good.attempts["CDS", "a"] = (object(),)
    outcomes.note(good)
    assert outcomes.rejected == {}
    outcomes.note(rejected(version))
    outcomes.forget("CDS", "a")
    assert not outcomes.was_rejected("CDS", "a", version)


def test_culprit_is_what_istiod_hears_of() -> None:
    changes = Changes()
    changes.reject("CDS", "a", "no good", kept=False, culprit=("EDS", "a.assignment"))
    (error,) = changes.errors
    assert (error.kind, error.resource, error.reason) == ("EDS", "a.assignment", "no good")
    assert changes.rejected == {("CDS", "a"): ("no good", False)}
