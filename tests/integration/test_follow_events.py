"""`eastgate events --follow` over a restart of the proxy, whose ids begin anew."""

import json
import subprocess
import threading

from ..support import messages
from ..support.free_ports import free_port
from ..support.gateway_process import EASTGATE, Eastgate
from ..support.recordings import CDS
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

NAME, BAD = messages.sni("web"), messages.sni("bad")


def test_each_process_is_told_whole_though_ids_repeat() -> None:
    resources = messages.resources({NAME: []})
    refused = messages.Cluster.parse(messages.cluster(BAD))
    refused.connect_timeout = None
    refused.lb_policy = messages.ClusterLbPolicy.CLUSTER_PROVIDED
    resources[CDS][BAD] = bytes(refused)
    admin = f"127.0.0.1:{free_port()}"
    told, noted = list[str](), list[str]()
    with ReplayThread(resources) as control:
        first = Eastgate(control.address, "--admin", admin)
        first.wait_ready()
        command = [EASTGATE, "events", "--follow", "--json", "--kind", "rejected", "--admin", f"http://{admin}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            assert follower.stderr is not None
            readers = [
                threading.Thread(target=lambda pipe=pipe, kept=kept: kept.extend(pipe), daemon=True)  # type: ignore[misc]
                for pipe, kept in ((follower.stdout, told), (follower.stderr, noted))
            ]
            for one in readers:
                one.start()
            try:
                until(lambda: len(told) == 1, "the first one is told")
                first.stop()
                until(lambda: noted, "it is said that the proxy is away")
                with Eastgate(control.address, "--admin", admin) as second:
                    second.wait_ready()
                    until(lambda: len(told) == 2, "the second one is told")
            finally:
                follower.kill()
                for one in readers:
                    one.join()
    ids, subjects = zip(*[(json.loads(line)["id"], json.loads(line)["subject"]) for line in told], strict=True)
    assert len(set(ids)) == 1
    assert set(subjects) == {f"CDS {BAD}"}
    assert noted[0].startswith(f"eastgate: note: http://{admin}/events")
    assert noted[0].rstrip().endswith("asking again")
