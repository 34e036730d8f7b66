#!/usr/bin/env python3
"""Write a docker-archive image that holds one static binary: image_from_binary.py NAME:TAG BINARY OUT.tar"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar archive of `files`, all executable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def main(name: str, binary: str, out: str) -> None:
    path = Path(binary)
    layer = tar_of({path.name: path.read_bytes()})
    layer_id = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [f"/{path.name}"], "User": "65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_id}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{layer_id}/layer.tar"]}]).encode()
    Path(out).write_bytes(tar_of({config_name: config, f"{layer_id}/layer.tar": layer, "manifest.json": manifest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
