"""The real world, as far as it can be seen from inside: small checks, on loopback."""

import threading
import time

import trio

from cdp.config import Config
from cdp.system import new_secret, real_environment


async def test_the_clock_is_the_machines_in_microseconds():
    before_us = time.time_ns() // 1_000
    now_us = real_environment(Config()).clock.now_us()
    assert before_us <= now_us <= time.time_ns() // 1_000


async def test_chance_differs_from_process_to_process():
    one, other = real_environment(Config()), real_environment(Config())
    assert one.new_id() != other.new_id()
    assert len(one.new_id()) == 32


async def test_a_listener_takes_connections_on_a_free_port():
    network = real_environment(Config()).network
    listeners = await network.listen("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    async with (
        await trio.open_tcp_stream("127.0.0.1", port) as client,
        await listeners[0].accept() as server,
    ):
        await client.send_all(b"hello")
        assert await server.receive_some() == b"hello"
    for listener in listeners:
        await listener.aclose()


async def test_a_name_resolves_to_each_of_its_addresses_once():
    found = await real_environment(Config()).network.resolve("127.0.0.1", 80)
    assert found == ["127.0.0.1"]


async def test_blocking_calls_leave_the_loops_thread():
    run_in_thread = real_environment(Config()).run_in_thread
    assert await run_in_thread(threading.get_ident) != threading.get_ident()
    assert await run_in_thread(divmod, 7, 2) == (3, 1)


def test_a_secret_has_256_bits_and_is_never_the_same():
    assert len({new_secret() for _ in range(10)}) == 10
    assert len(bytes.fromhex(new_secret())) == 32
