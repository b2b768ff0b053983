"""Small pages of Envoy's admin about the process: memory, runtime, what is being waited for. Pure, but for /proc."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
# Field of envoy.admin.v3.Memory -> line of /proc/self/status.
MEMORY = {"allocated": "RssAnon", "heap_size": "VmData", "total_physical_bytes": "VmRSS"}
# Paths of Envoy that mean nothing here, and what is answered there.
ABSENT = {
    "/contention": "eastgate traces no mutexes: its workers share none.\n",
    "/cpuprofiler": "eastgate has no CPU profiler: use perf or py-spy.\n",
    **dict.fromkeys(
        ("/heapprofiler", "/allocprofiler", "/heap_dump", "/peak_heap_dump"), "eastgate has no heap profiler.\n"
    ),
    "/memory/tcmalloc": "eastgate does not allocate with tcmalloc: /memory says what the process takes.\n",
    **dict.fromkeys(
        (f"/stats/recentlookups{what}" for what in ("", "/clear", "/disable", "/enable")),
        "eastgate looks no statistic up by its name while it works.\n",
    ),
    "/tap": "eastgate has no tap: tcpdump sees what it passes on.\n",
    "/reset_counters": "eastgate's counters only grow, as Prometheus expects: subtract what you have seen.\n",
    "/runtime_modify": "eastgate has no runtime that could be modified.\n",
}


def memory_bytes(status: Path = STATUS) -> dict[str, int]:
    """Of this process: anonymous memory in use, data segment, resident."""
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return {field: int(lines[name].split()[0]) * 1024 for field, name in MEMORY.items() if name in lines}


def memory_json(found: dict[str, int]) -> dict[str, str]:
    """envoy.admin.v3.Memory. What only tcmalloc knows is 0."""
    others = dict.fromkeys(("pageheap_unmapped", "pageheap_free", "total_thread_cache"), "0")
    return {**{field: str(value) for field, value in found.items()}, **others}


def runtime_json() -> dict[str, Any]:
    """Envoy's runtime: eastgate reads no key of it."""
    return {"entries": {}, "layers": []}


def init_dump_json(warming: Collection[str], secrets: Collection[str]) -> dict[str, Any]:
    """envoy.admin.v3.UnreadyTargetsDumps: clusters without their first endpoints, secrets that have not come."""
    waiting = [
        {"name": f"init manager {kind}", "target_names": sorted(names)}
        for kind, names in (("clusters", warming), ("secrets", secrets))
        if names
    ]
    return {"unready_targets_dumps": waiting} if waiting else {}
