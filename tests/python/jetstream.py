"""JetStream as the official Python client uses it: streams, publishing, consumers."""

import asyncio

import nats.errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError


async def expect_error(code, awaitable):
    try:
        await awaitable
    except APIError as error:
        assert error.err_code == code, error
        return
    raise AssertionError(f"no error {code}")


async def stream_life(nc):
    js = nc.jetstream()
    for storage in (StorageType.FILE, StorageType.MEMORY):
        name = f"LIFE_{storage.value}"
        info = await js.add_stream(
            StreamConfig(name=name, subjects=[f"{name}.>"], storage=storage, description="d")
        )
        assert info.config.storage == storage and info.state.messages == 0
        assert info.config.duplicate_window == 120
        await js.add_stream(
            StreamConfig(name=name, subjects=[f"{name}.>"], storage=storage, description="d")
        )
        await expect_error(10058, js.add_stream(name=name, subjects=["other"]))
        await expect_error(10065, js.add_stream(name=f"{name}2", subjects=[f"{name}.a"]))
        for number in range(5):
            ack = await js.publish(f"{name}.{number % 2}", b"x" * number)
            assert (ack.stream, ack.seq) == (name, number + 1)
        info = await js.stream_info(name, subjects_filter=">")
        assert info.state.messages == 5 and info.state.last_seq == 5
        assert info.state.subjects == {f"{name}.0": 3, f"{name}.1": 2}
        info.config.max_msgs = 3
        info = await js.update_stream(info.config)
        assert info.state.messages == 3 and info.state.first_seq == 3
        assert name in [found.config.name for found in await js.streams_info()]
        assert await js.find_stream_name_by_subject(f"{name}.x") == name
        assert await js.delete_stream(name)
        try:
            await js.stream_info(name)
            raise AssertionError("still there")
        except NotFoundError as error:
            assert error.err_code == 10059


async def publish_checks(nc):
    js = nc.jetstream()
    await js.add_stream(name="CHECKS", subjects=["checks.*"])
    ack = await js.publish("checks.a", b"1", headers={"Nats-Msg-Id": "one"})
    again = await js.publish("checks.a", b"1", headers={"Nats-Msg-Id": "one"})
    assert again.duplicate and again.seq == ack.seq
    await js.publish("checks.a", b"2", headers={"Nats-Expected-Last-Sequence": "1"})
    for headers, code in (
        ({"Nats-Expected-Last-Sequence": "1"}, 10071),
        ({"Nats-Expected-Stream": "OTHER"}, 10060),
        ({"Nats-Expected-Last-Subject-Sequence": "1"}, 10071),
        ({"Nats-Expected-Last-Msg-Id": "zzz"}, 10070),
        ({"Nats-Rollup": "sub"}, 10111),
    ):
        await expect_error(code, js.publish("checks.a", b"", headers=headers))
    assert (await js.stream_info("CHECKS")).state.messages == 2


async def limits_and_discard(nc):
    js = nc.jetstream()
    await js.add_stream(name="OLD", subjects=["old"], max_msgs=3)
    await js.add_stream(
        name="NEW", subjects=["new"], max_msgs=3, discard=DiscardPolicy.NEW
    )
    for number in range(5):
        await js.publish("old", str(number).encode())
    state = (await js.stream_info("OLD")).state
    assert (state.messages, state.first_seq, state.last_seq) == (3, 3, 5), state
    for number in range(3):
        await js.publish("new", b"")
    await expect_error(10077, js.publish("new", b""))
    await js.add_stream(name="HISTORY", subjects=["history.*"], max_msgs_per_subject=2)
    for number in range(6):
        await js.publish(f"history.{number % 2}", str(number).encode())
    assert (await js.get_last_msg("HISTORY", "history.1")).data == b"5"
    assert (await js.stream_info("HISTORY")).state.messages == 4
    await js.add_stream(name="SMALL", subjects=["small"], max_msg_size=10)
    await expect_error(10054, js.publish("small", b"x" * 11))
    await js.add_stream(name="AGE", subjects=["age"], max_age=1)
    await js.publish("age", b"x")
    while (await js.stream_info("AGE")).state.messages:
        await asyncio.sleep(0.05)


async def get_delete_purge(nc):
    js = nc.jetstream()
    await js.add_stream(
        StreamConfig(name="GET", subjects=["get.*"], allow_direct=True)
    )
    for number in range(10):
        await js.publish(f"get.{number % 3}", str(number).encode(), headers={"N": str(number)})
    message = await js.get_msg("GET", 4)
    assert (message.subject, message.data, message.headers["N"]) == ("get.0", b"3", "3")
    assert (await js.get_last_msg("GET", "get.2")).seq == 9
    direct = await js.get_msg("GET", 5, direct=True)
    assert direct.data == b"4" and direct.headers["N"] == "4"
    assert (await js.get_msg("GET", subject="get.1", seq=6, next=True)).seq == 8
    assert await js.delete_msg("GET", 4)
    await expect_error(10037, js.get_msg("GET", 4))
    state = (await js.stream_info("GET")).state
    assert state.messages == 9 and state.num_deleted == 1
    assert await js.purge_stream("GET", subject="get.1")
    assert (await js.stream_info("GET")).state.messages == 6
    assert await js.purge_stream("GET", keep=2)
    assert (await js.stream_info("GET")).state.messages == 2
    assert await js.purge_stream("GET")
    state = (await js.stream_info("GET")).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 11, 10)


async def pull_consumer(nc):
    js = nc.jetstream()
    await js.add_stream(name="PULL", subjects=["pull.>"])
    for number in range(20):
        await js.publish(f"pull.{number}", str(number).encode())
    sub = await js.pull_subscribe("pull.>", "worker")
    messages = await sub.fetch(10, timeout=5)
    assert [message.data for message in messages] == [str(n).encode() for n in range(10)]
    assert messages[0].metadata.num_pending == 19
    assert messages[0].metadata.sequence.stream == 1
    for message in messages[:5]:
        await message.ack_sync(timeout=5)
    info = await js.consumer_info("PULL", "worker")
    assert info.num_ack_pending == 5 and info.num_pending == 10, info
    assert info.ack_floor.stream_seq == 5 and info.delivered.stream_seq == 10
    for message in messages[5:]:
        await message.ack()
    rest = await sub.fetch(100, timeout=1)
    assert len(rest) == 10
    try:
        await sub.fetch(1, timeout=0.3)
        raise AssertionError("there was nothing left")
    except nats.errors.TimeoutError:
        pass
    await js.delete_consumer("PULL", "worker")
    try:
        await js.consumer_info("PULL", "worker")
        raise AssertionError("still there")
    except NotFoundError as error:
        assert error.err_code == 10014


async def ack_verbs(nc):
    js = nc.jetstream()
    await js.add_stream(name="ACKS", subjects=["acks"])
    for number in range(4):
        await js.publish("acks", str(number).encode())
    sub = await js.pull_subscribe(
        "acks", "worker", config=ConsumerConfig(ack_wait=1, max_deliver=3)
    )
    one, two, three, four = await sub.fetch(4, timeout=5)
    await one.ack_sync()
    await two.nak()
    await three.term()
    await four.in_progress()
    again = (await sub.fetch(1, timeout=5))[0]
    assert again.data == b"1" and again.metadata.num_delivered == 2
    await again.ack_sync()
    late = (await sub.fetch(1, timeout=5))[0]
    assert late.data == b"3" and late.metadata.num_delivered == 2
    await late.nak(delay=0.2)
    last = (await sub.fetch(1, timeout=5))[0]
    assert last.data == b"3" and last.metadata.num_delivered == 3
    await last.ack_sync()
    info = await js.consumer_info("ACKS", "worker")
    assert info.num_ack_pending == 0 and info.num_pending == 0, info
    assert info.ack_floor.stream_seq == 4


async def ack_all_and_max_ack_pending(nc):
    js = nc.jetstream()
    await js.add_stream(name="ALL", subjects=["all"])
    for number in range(10):
        await js.publish("all", str(number).encode())
    sub = await js.pull_subscribe(
        "all",
        "worker",
        config=ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=6),
    )
    messages = await sub.fetch(10, timeout=1)
    assert len(messages) == 6
    await messages[3].ack_sync()
    info = await js.consumer_info("ALL", "worker")
    assert info.num_ack_pending == 2 and info.ack_floor.stream_seq == 4
    assert len(await sub.fetch(10, timeout=1)) == 4


async def deliver_policies_and_filters(nc):
    js = nc.jetstream()
    await js.add_stream(name="START", subjects=["start.*"])
    for number in range(9):
        await js.publish(f"start.{number % 3}", str(number).encode())

    async def first(name, **settings):
        await js.add_consumer(
            "START",
            ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, **settings),
        )
        sub = await js.pull_subscribe_bind(consumer=name, stream="START")
        return [message.data for message in await sub.fetch(9, timeout=1)]

    async def numbers(name, **settings):
        return [int(data) for data in await first(name, **settings)]

    assert await numbers("all") == list(range(9))
    assert await numbers("last", deliver_policy=DeliverPolicy.LAST) == [8]
    assert await numbers(
        "sequence", deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=7
    ) == [6, 7, 8]
    assert await numbers(
        "subjects",
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        filter_subject="start.*",
    ) == [6, 7, 8]
    assert await numbers("filter", filter_subject="start.1") == [1, 4, 7]
    assert await numbers("filters", filter_subjects=["start.0", "start.2"]) == [0, 2, 3, 5, 6, 8]
    info = await js.consumer_info("START", "filter")
    assert info.num_pending == 0 and info.delivered.stream_seq == 8


async def push_consumer(nc):
    js = nc.jetstream()
    await js.add_stream(name="PUSH", subjects=["push"])
    for number in range(50):
        await js.publish("push", str(number).encode())
    sub = await js.subscribe("push", durable="pusher")
    for number in range(50):
        message = await sub.next_msg(timeout=5)
        assert message.data == str(number).encode()
        await message.ack()
    await js.publish("push", b"late")
    assert (await sub.next_msg(timeout=5)).data == b"late"
    assert (await js.consumer_info("PUSH", "pusher")).push_bound


async def push_queue_group(nc):
    js = nc.jetstream()
    await js.add_stream(name="SHARED", subjects=["shared"])
    got = []

    async def on_message(message):
        got.append(message.data)
        await message.ack()

    for _ in range(3):
        await js.subscribe("shared", queue="workers", cb=on_message)
    for number in range(60):
        await js.publish("shared", str(number).encode())
    while len(got) < 60:
        await asyncio.sleep(0.01)
    assert sorted(got, key=int) == [str(number).encode() for number in range(60)]


async def ordered_consumer(nc):
    js = nc.jetstream()
    await js.add_stream(name="ORDERED", subjects=["ordered"])
    payload = b"x" * 1024
    for _ in range(40):
        await asyncio.gather(*(js.publish("ordered", payload) for _ in range(100)))
    sub = await js.subscribe("ordered", ordered_consumer=True)
    for number in range(4000):
        message = await sub.next_msg(timeout=10)
        assert message.metadata.sequence.stream == number + 1
    await sub.unsubscribe()


async def ephemeral_consumer_goes_away(nc):
    js = nc.jetstream()
    await js.add_stream(name="EPHEMERAL", subjects=["ephemeral"])
    await js.add_consumer(
        "EPHEMERAL", ConsumerConfig(name="brief", ack_policy=AckPolicy.EXPLICIT, inactive_threshold=0.5)
    )
    assert (await js.consumer_info("EPHEMERAL", "brief")).name == "brief"
    while await js.consumers_info("EPHEMERAL"):
        await asyncio.sleep(0.05)


async def account_info(nc):
    js = nc.jetstream()
    before = await js.account_info()
    await js.add_stream(name="INFO", subjects=["info"], storage=StorageType.MEMORY)
    await js.publish("info", b"0123456789")
    after = await js.account_info()
    assert after.streams == before.streams + 1
    assert after.memory == before.memory + len("info") + 10 + 16
    assert after.limits.max_memory == -1 and after.api.total > before.api.total
