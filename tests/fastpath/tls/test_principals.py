"""Names of peers are kept once."""

import threading

from eastgate.fastpath.tls.principals import MANY, interned


def test_equal_names_are_one_and_others_are_not() -> None:
    names = [f"spiffe://cluster.local/ns/a/sa/{number}".encode() for number in range(2000)]
    first = [interned(name) for name in names]
    assert [text for text, _ in first] == [name.decode() for name in names]
    assert len({place for _, place in first}) == len(names)
    assert [interned(name) for name in names] == first


def test_threads_that_meet_a_name_at_once_get_one() -> None:
    names = [f"spiffe://threads/{number}".encode() for number in range(500)]
    found: list[list[tuple[str, int]]] = []
    threads = [threading.Thread(target=lambda: found.append([interned(name) for name in names])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one == found[0] for one in found)


def test_no_name_is_nobody_and_a_long_one_is_one_of_many() -> None:
    assert interned(b"") == ("", 0)
    assert interned(b"x" * 256)[0] == "x" * 256
    assert interned(b"x" * 257)[0] == MANY
