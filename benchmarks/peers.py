"""The peers between a caller and a pod: nothing, a pass-through in Python, Go's proxy, nginx."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.cores import Cores
from benchmarks.processes import ROOT, CannotStart, Process, free_port, python

GO_SOURCE = ROOT / "benchmarks" / "goproxy"
NGINX_CONFIG = """
daemon off; worker_processes 1; error_log stderr warn; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream pod {{ server 127.0.0.1:{pod}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://pod/chat; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

POD, PASS_THROUGH, GO, NGINX, OURS = "pod alone", "pass-through", "Go ReverseProxy", "nginx", "session-manager"


CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to load: its port, the requests of each connection, and meters of its CPU time."""

    name: str
    port: int
    requests: Sequence[Sequence[bytes]]
    meters: Sequence[load.Meter]


@asynccontextmanager
async def start(cores: Cores, folder: Path, pod: Process, pod_port: int, body: bytes) -> AsyncIterator[list[Peer]]:
    """Start the peers that can run here, and return them. The pod itself is the first."""
    requests = [[load.post("/chat", body)]] * CONNECTIONS
    with ExitStack() as stack:
        peers = [Peer(POD, pod_port, requests, [lambda: pod.cpu])]
        for name, command in await _commands(folder, pod_port):
            port = free_port()
            with cores.on_servers():
                process = Process(name.split(" ", maxsplit=1)[0], command(port), folder, {"GOMAXPROCS": "1"})
            stack.callback(process.stop)
            await process.listens(port)
            peers.append(Peer(name, port, requests, [_meter(process)]))
        yield peers


def _meter(process: Process) -> load.Meter:
    return lambda: process.cpu


Command = Callable[[int], list[str]]


async def _commands(folder: Path, pod_port: int) -> list[tuple[str, Command]]:
    """Return the command of each installed peer for a port."""
    commands: list[tuple[str, Command]] = [
        (PASS_THROUGH, lambda port: python("benchmarks.passthrough", port, pod_port)),
    ]
    if go := shutil.which("go"):
        program = await asyncio.to_thread(_build_go, go, folder)
        commands.append((GO, lambda port: [program, f"127.0.0.1:{port}", f"127.0.0.1:{pod_port}"]))
    if nginx := shutil.which("nginx"):
        commands.append((NGINX, lambda port: [nginx, "-c", _nginx_config(folder, port, pod_port)]))
    return commands


def _build_go(go: str, folder: Path) -> str:
    program = folder / "goproxy"
    cache = {"GOCACHE": str(folder / "go-cache"), "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
    built = subprocess.run([go, "build", "-o", program, "."], cwd=GO_SOURCE, env={**os.environ, **cache}, check=False)
    if built.returncode:
        raise CannotStart("go build of benchmarks/goproxy failed")
    return str(program)


def _nginx_config(folder: Path, port: int, pod_port: int) -> str:
    path = folder / "nginx.conf"
    path.write_text(NGINX_CONFIG.format(folder=folder, port=port, pod=pod_port))
    return str(path)
