import asyncio

import pytest

from orchestration import metrics_listener


async def ask(server, request):
    host, port = server.sockets[0].getsockname()[:2]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
async def server():
    made = await metrics_listener.listen("127.0.0.1:0", lambda: b"cloudctl_up 1\n")
    yield made
    made.close()
    await made.wait_closed()


async def test_scrape_gets_the_text_with_its_type(server):
    answer = await ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert body == b"cloudctl_up 1\n"


@pytest.mark.parametrize(
    "request_", [b"GET /v1/work HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n"]
)
async def test_nothing_but_a_scrape_is_answered(server, request_):
    assert (await ask(server, request_)).startswith(b"HTTP/1.1 404")


async def test_peer_that_speaks_something_else_is_hung_up_on(server):
    assert await ask(server, b"\n" * 70_000) == b""


@pytest.mark.parametrize("address", ["9100", "127.0.0.1", "127.0.0.1:x"])
async def test_address_without_host_or_port_is_refused(address):
    with pytest.raises(ValueError, match="not HOST:PORT"):
        await metrics_listener.listen(address, lambda: b"")
