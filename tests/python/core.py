"""Core messaging as the official Python client uses it."""

import asyncio

import nats
from nats.errors import NoRespondersError


async def publish_subscribe(nc):
    got = asyncio.Queue()

    async def on_message(message):
        await got.put((message.subject, message.data, dict(message.headers or {})))

    await nc.subscribe("a.*", cb=on_message)
    await nc.subscribe("a.>", cb=on_message)
    await nc.publish("a.b", b"one", headers={"K": "v"})
    first, second = await got.get(), await got.get()
    assert first == second == ("a.b", b"one", {"K": "v"}), (first, second)


async def queue_groups(nc):
    counts = [0, 0, 0]
    everyone = 0

    def member(index):
        async def on_message(message):
            counts[index] += 1
        return on_message

    async def on_any(message):
        nonlocal everyone
        everyone += 1

    for index in range(3):
        await nc.subscribe("work", queue="workers", cb=member(index))
    await nc.subscribe("work", cb=on_any)
    for _ in range(300):
        await nc.publish("work", b"")
    await nc.flush()
    while everyone < 300 or sum(counts) < 300:
        await asyncio.sleep(0.01)
    assert sum(counts) == 300 and all(count > 40 for count in counts), counts


async def request_reply(nc):
    async def answer(message):
        await message.respond(message.data + b"!")

    await nc.subscribe("service", cb=answer)
    reply = await nc.request("service", b"hello", timeout=5)
    assert reply.data == b"hello!"
    try:
        await nc.request("nobody.home", b"", timeout=5)
        raise AssertionError("somebody answered")
    except NoRespondersError:
        pass


async def auto_unsubscribe(nc):
    sub = await nc.subscribe("limited")
    await sub.unsubscribe(limit=3)
    for number in range(10):
        await nc.publish("limited", str(number).encode())
    await nc.flush()
    got = [(await sub.next_msg(timeout=5)).data for _ in range(3)]
    assert got == [b"0", b"1", b"2"], got
    other = await nc.subscribe("limited")
    await nc.publish("limited", b"x")
    await other.next_msg(timeout=5)


async def no_echo(nc):
    quiet = await nats.connect(nc.connected_url.geturl(), no_echo=True)
    own = await quiet.subscribe("echo")
    other = await nc.subscribe("echo")
    await nc.flush()
    await quiet.publish("echo", b"x")
    assert (await other.next_msg(timeout=5)).data == b"x"
    await quiet.flush()
    assert own.pending_msgs == 0
    await quiet.close()


async def large_payloads(nc):
    sub = await nc.subscribe("large")
    payload = bytes(range(256)) * 4096
    assert len(payload) == 1 << 20
    for _ in range(20):
        await nc.publish("large", payload)
    for _ in range(20):
        assert (await sub.next_msg(timeout=10)).data == payload
    try:
        await nc.publish("large", payload + b"x")
        raise AssertionError("above max_payload")
    except nats.errors.MaxPayloadError:
        pass
