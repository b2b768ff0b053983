"""usage.py NAMESPACE PODS CONTAINER: what these containers take, by a kubelet's /stats/summary on stdin.

Nanoseconds of CPU since they were started and bytes of memory (without inactive files), summed over the containers of
that name (`*`: any) in pods whose names begin with PODS. Exit code 1 where there is none.
"""

import json
import sys

namespace, pods, container = sys.argv[1:]
found = [
    (one["cpu"]["usageCoreNanoSeconds"], one["memory"]["workingSetBytes"])
    for pod in json.load(sys.stdin)["pods"]
    if pod["podRef"]["namespace"] == namespace and pod["podRef"]["name"].startswith(pods)
    for one in pod.get("containers", [])
    if container in ("*", one["name"]) and one.get("cpu") and one.get("memory")
]
if not found:
    sys.exit(f"no container {container} of {pods}* in {namespace}")
print(*map(sum, zip(*found, strict=True)))
