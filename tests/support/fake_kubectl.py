"""A kubectl on PATH that answers as the real one does, for a mesh that is a dict. Run as a program by itself.

`install` puts it into a folder; the program reads what it knows from FAKE_KUBECTL, a file with a JSON object:
{"contexts": {NAME: {"pods": [Pod], "objects": {"deploy/NAME": {...}}, "admins": {"NAMESPACE/POD": PORT or null},
"forbidden": [verb, ...], "programs": [NAME, ...]}}}. null: the container listens nowhere; programs run here.
"""

import json
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn


def install(folder: Path, contexts: dict[str, Any]) -> dict[str, str]:
    """Variables with which `kubectl` is this program with these contexts; the first one is the current."""
    binaries = folder / "bin"
    binaries.mkdir()
    program = binaries / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -S {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)
    known = folder / "kubectl.json"
    known.write_text(json.dumps({"contexts": contexts, "log": str(folder / "kubectl.log")}))
    return {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "FAKE_KUBECTL": str(known)}


def pod(
    name: str, *, namespace: str = "default", container: str = "istio-proxy",
    args: tuple[str, ...] = ("proxy", "sidecar"), labels: dict[str, str] | None = None, phase: str = "Running",
    native: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A Pod object, with an application beside its proxy. ``native``: the proxy is an init container that goes on."""
    proxy = {"name": container, "image": f"registry.example/{container}:1", "args": list(args)}
    app: dict[str, Any] = {"name": "app", "image": "registry.example/app:1"}
    if native:
        spec = {"containers": [app], "initContainers": [{**proxy, "restartPolicy": "Always"}]}
    else:
        spec = {"containers": [app, proxy] if container else [app]}
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase}}


def fail(text: str) -> NoReturn:
    sys.stderr.write(text + "\n")
    sys.exit(1)


def taken(words: list[str], *flags: str) -> str:
    """The value of a flag, which is taken out of the words; empty without."""
    for flag in flags:
        if flag in words:
            at = words.index(flag)
            value = words[at + 1]
            del words[at : at + 2]
            return value
    return ""


def main() -> None:
    known = json.loads(Path(os.environ["FAKE_KUBECTL"]).read_text())
    words, _, inside = (part for part in split_at(sys.argv[1:], "--"))
    with Path(known["log"]).open("a") as log:
        log.write(" ".join(sys.argv[1:]) + "\n")
    contexts = known["contexts"]
    kubeconfig = taken(words, "--kubeconfig")
    if kubeconfig and not Path(kubeconfig).exists():
        fail(f"error: stat {kubeconfig}: no such file or directory")
    name = taken(words, "--context") or next(iter(contexts))
    if name not in contexts:
        fail(f'error: context "{name}" does not exist')
    cluster = contexts[name]
    if cluster is None:
        sys.stderr.write('E1129 02:12:18 26134 memcache.go:265] "Unhandled Error" err="connection refused"\n' * 3)
        fail("The connection to the server localhost:8080 was refused - did you specify the right host or port?")
    namespace = taken(words, "--namespace", "-n") or "default"
    verb, *rest = words
    if verb in cluster.get("forbidden", ()):
        fail(
            f'Error from server (Forbidden): pods "x" is forbidden: User "me" cannot create resource "pods/{verb}"'
            f' in API group "" in the namespace "{namespace}"'
        )
    {"get": get, "port-forward": port_forward, "exec": execute}[verb](cluster, namespace, rest, inside)


def split_at(words: list[str], mark: str) -> tuple[list[str], list[str], list[str]]:
    at = words.index(mark) if mark in words else len(words)
    return words[:at], words[at : at + 1], words[at + 1 :]


def get(cluster: dict[str, Any], namespace: str, words: list[str], inside: list[str]) -> None:
    taken(words, "-o")
    selector = taken(words, "--selector", "-l")
    pods = cluster.get("pods", [])
    if words[:1] == ["pods"]:
        everywhere = "--all-namespaces" in words
        chosen = [one for one in pods if everywhere or one["metadata"]["namespace"] == namespace]
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        chosen = [one for one in chosen if wanted.items() <= one["metadata"]["labels"].items()]
        print(json.dumps({"kind": "List", "items": chosen}))
        return
    if words[0] == "pod":
        found = [
            one for one in pods if (one["metadata"]["namespace"], one["metadata"]["name"]) == (namespace, words[1])
        ]
        if not found:
            fail(f'Error from server (NotFound): pods "{words[1]}" not found')
        print(json.dumps(found[0]))
        return
    kind, _, name = words[0].partition("/")
    if kind not in ("deploy", "deployment", "statefulset", "service"):
        fail(f'error: the server doesn\'t have a resource type "{kind}"')
    content = cluster.get("objects", {}).get(words[0])
    if content is None:
        fail(f'Error from server (NotFound): {kind}s.apps "{name}" not found')
    print(json.dumps(content))


def admin_of(cluster: dict[str, Any], namespace: str, name: str) -> int | None:
    found = cluster.get("admins", {}).get(f"{namespace}/{name}")
    return None if found is None else int(found)


def port_forward(cluster: dict[str, Any], namespace: str, words: list[str], inside: list[str]) -> None:
    taken(words, "--address")
    name, port = words[0].removeprefix("pod/"), words[1].removeprefix(":")
    target = admin_of(cluster, namespace, name)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"Forwarding from 127.0.0.1:{listener.getsockname()[1]} -> {port}", flush=True)
    while True:
        client, _ = listener.accept()
        if target is None:
            client.close()
            listener.close()
            sys.stderr.write(
                f"E1129 portforward.go:424] an error occurred forwarding 1 -> {port}: connection refused\n"
            )
            fail("error: lost connection to pod")
        upstream = socket.create_connection(("127.0.0.1", target))
        for one, other in ((client, upstream), (upstream, client)):
            threading.Thread(target=copy, args=(one, other), daemon=True).start()


def copy(one: socket.socket, other: socket.socket) -> None:
    try:
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def execute(cluster: dict[str, Any], namespace: str, words: list[str], inside: list[str]) -> None:
    container = taken(words, "-c")
    if inside[0] in cluster.get("programs", ()):
        os.execvp(inside[0], inside)
    words = [word for word in words if word != "-i"]
    target = admin_of(cluster, namespace, words[0])
    if inside[:3] != ["pilot-agent", "request", "GET"] or container != "istio-proxy" or target is None:
        fail(f'error: exec: "{inside[0]}": executable file not found in $PATH')
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{target}/{inside[3]}", timeout=30) as answer:
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"Error: received unsuccessful status code {error.code}: {error.reason}\n")
        fail("command terminated with exit code 1")


if __name__ == "__main__":
    main()
