"""Memory, runtime and what is waited for, in Envoy's shapes."""

from pathlib import Path

from eastgate.proxy.admin.process_pages import init_dump_json, memory_bytes, memory_json, runtime_json

# As Envoy 1.40 shows them.
MEMORY = {
    *("allocated", "heap_size", "pageheap_unmapped", "pageheap_free", "total_thread_cache", "total_physical_bytes"),
}


def test_memory_is_that_of_this_process() -> None:
    found = memory_bytes()
    assert 1 << 20 < found["allocated"] <= found["total_physical_bytes"]
    assert found["heap_size"] > 1 << 20
    shown = memory_json(found)
    assert shown.keys() == MEMORY
    assert all(value.isdecimal() for value in shown.values())


def test_lines_that_a_kernel_does_not_have_are_left_out(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmRSS:\t    3 kB\n")
    assert memory_bytes(status) == {"total_physical_bytes": 3072}


def test_runtime_has_nothing() -> None:
    assert runtime_json() == {"entries": {}, "layers": []}


def test_what_is_waited_for_is_named() -> None:
    assert init_dump_json((), ()) == {}
    assert init_dump_json({"b", "a"}, {"default"}) == {
        "unready_targets_dumps": [
            {"name": "init manager clusters", "target_names": ["a", "b"]},
            {"name": "init manager secrets", "target_names": ["default"]},
        ]
    }
