import random
from itertools import pairwise

from eastgate.fastpath.match.intervals import intervals


def test_example():
    assert intervals(4, [(1, 8, "upper half"), (3, 8, "eighth")], "rest") == (
        [0, 8, 10],
        ["rest", "eighth", "upper half"],
    )


def test_without_prefixes_and_with_one_of_no_bits():
    assert intervals(32, [], "rest") == ([0], ["rest"])
    assert intervals(32, [(0, 0, "all")], "rest") == ([0], ["all"])


def test_neighbours_with_one_answer_are_one_interval():
    assert intervals(4, [(2, 4, "a"), (2, 8, "a"), (4, 5, "a")], "rest") == ([0, 4, 12], ["rest", "a", "rest"])


def test_the_last_number_of_the_largest_addresses():
    top = 2**128 - 1
    assert intervals(128, [(128, top, "top")], "rest") == ([0, top], ["rest", "top"])


def test_every_number_has_the_answer_of_its_longest_prefix():
    rng = random.Random(1)
    for _ in range(300):
        chosen = {}
        for _ in range(rng.randint(0, 12)):
            length = rng.randint(0, 6)
            chosen[length, rng.randrange(64) >> 6 - length << 6 - length] = rng.choice("abc")
        starts, answers = intervals(6, [(*key, answer) for key, answer in chosen.items()], "rest")
        assert starts == sorted({0, *starts})
        assert all(one != two for one, two in pairwise(answers))
        for number in range(64):
            around = [key for key in chosen if number >> 6 - key[0] << 6 - key[0] == key[1]]
            found = answers[max(index for index, start in enumerate(starts) if start <= number)]
            assert found == (chosen[max(around)] if around else "rest")
