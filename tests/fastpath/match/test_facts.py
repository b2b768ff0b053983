import copy
import pickle

import pytest
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable

from .specs import chain


def refused(**asked: object) -> str:
    with pytest.raises(ValueError) as caught:
        Observed(**asked)
    return str(caught.value)


def test_what_no_connection_can_have():
    assert "'x' is not an IP address" in refused(destination="x")
    assert "'::g' is not an IP address" in refused(source="::g")
    assert "'1.2.3' is not an IP address" in refused(direct_source="1.2.3")
    assert "'1.2.3.4\\x00' is not an IP address" in refused(source="1.2.3.4\0")
    assert "port 65536 is outside" in refused(source_port=65536)
    assert "port -1 is outside" in refused(destination_port=-1)
    assert "65536 bytes" in refused(server_name="a" * 65536)
    assert "without TLS there is no server name" in refused(server_name="a", tls=False)
    for protocol in ("", "x" * 256):
        assert "is not 1 to 255 bytes long" in refused(application_protocols=[protocol])


def test_largest():
    names = ("a" * 65535, "c" * 255)
    seen = Observed(server_name=names[0], authority=names[0], application_protocols=[names[1]], source_port=65535)
    table = RouteTable.compile([chain("largest", application_protocols=names[1:], source_ports=(65535,))])
    assert table.match(seen) == 0
    assert table.match(Observed(application_protocols=[names[1]], source_port=65534)) < 0
    assert table.match(Observed(application_protocols=[names[1][1:]], source_port=65535)) < 0


def test_is_not_copied():
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Observed())
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(Observed())
