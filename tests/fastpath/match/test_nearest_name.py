from eastgate.fastpath.match.route_table import RouteTable

from .specs import chain, istio


def test_nearest_name_is_the_one_with_the_fewest_changes():
    names = [f"outbound_.80_._.{service}.default.svc.cluster.local" for service in ("reviews", "ratings", "details")]
    table = RouteTable.compile([istio(name, name) for name in names])
    assert table.nearest_server_name("outbound_.80_._.review.default.svc.cluster.local") == names[0]
    assert table.nearest_server_name("outbound_.8080_._.ratings.default.svc.cluster.local") == names[1]
    assert table.nearest_server_name("OUTBOUND_.80_.v1_.details.default.svc.cluster.local") == names[2]
    assert table.nearest_server_name(names[1]) == names[1]


def test_nearest_name_is_empty_when_none_is_near():
    table = RouteTable.compile([chain("a", "reviews.default", "*.example")])
    assert table.nearest_server_name("something.else.entirely") == ""
    assert table.nearest_server_name("") == ""
    assert RouteTable.compile([chain("short", "a")]).nearest_server_name("") == ""
    assert table.nearest_server_name("x" * 400) == ""
    # At most one letter in five, and one: 4 for 15 letters.
    assert table.nearest_server_name("revXXXX.default") == "reviews.default"
    assert table.nearest_server_name("reXXXXX.default") == ""
    assert table.nearest_server_name("x.example") == ""


def test_nearest_name_does_not_depend_on_where_names_lie():
    names = [f"a{letter}.example" for letter in "zyxwvutsrqponm"]
    assert {RouteTable.compile([chain(n, n) for n in names]).nearest_server_name("a.example") for _ in range(20)} == {
        "am.example"
    }


def test_nearest_name_looks_at_every_port():
    table = RouteTable.compile([chain("a", "aaaa.example", destination_port=1), chain("b", "bbbb.example")])
    assert table.nearest_server_name("aaaa.exampl") == "aaaa.example"
    assert table.nearest_server_name("bbbb.exampl") == "bbbb.example"
