"""The rights and the isolation of a session's pod."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.world import FrontDoorProcess, World

COUNTER = ["python3", "examples/counter/agent.py"]


async def test_a_pod_runs_under_the_restricted_level(world: World):
    """The namespace of these tests enforces the level; these are properties that it does not enforce."""
    await world.make_class()
    session = await world.make_session()
    await world.awake(session)
    [pod] = await world.pods(session)
    spec = pod["spec"]
    [container] = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not [mount for mount in container["volumeMounts"] if "serviceaccount" in mount["mountPath"]]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {name for name, value in spec.items() if value}


@pytest.mark.parametrize("whose", ["of a session that is awake", "of a warm pod that was claimed"])
async def test_no_pod_answers_for_another_session(world: World, door: FrontDoorProcess, whose: str):
    """Not even if the recorded address of one belongs to the other, as after an address was reused."""
    await world.make_class(command=COUNTER, warm=int("warm" in whose))
    one, other = await door.create(), await door.create()
    assert (await door.chat(one, "first"))["in_memory"] == 1
    for count in (1, 2, 3):
        assert (await door.chat(other, "hello"))["in_memory"] == count
    address = await world.published(other)
    assert address is not None

    await asyncio.to_thread(door.stop)  # the next one has no open connection to the right pod
    await world.link.execute("HSET", f"session:{one}", "ip", address.ip, "port", address.port)
    await door.start()
    assert (await door.chat(one, "whose pod is this?"))["in_memory"] in {1, 2}
    assert (await door.chat(other, "again"))["in_memory"] == 4
