"""A proxy between the server and Redis that loses, delays and cuts what it passes."""

import asyncio
import contextlib


class Direction:
    """What is done with the bytes of one direction of one connection."""

    def __init__(self, proxy):
        self.passes = asyncio.Event()
        self.passes.set()
        self.rate = proxy.rate
        self.chunk = proxy.chunk

    def stall(self):
        self.passes.clear()

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while True:
                await self.passes.wait()
                data = await reader.read(self.chunk)
                # It may have been stalled while it waited for bytes.
                await self.passes.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
                if self.rate:
                    await asyncio.sleep(len(data) / self.rate)
            if writer.can_write_eof():
                writer.write_eof()


class Connection:
    """A connection of the server, and the one to Redis that belongs to it."""

    def __init__(self, proxy, near, far):
        self.near, self.far = near[1], far[1]
        self.to_redis = Direction(proxy)
        self.from_redis = Direction(proxy)
        self.pumps = asyncio.gather(
            self.to_redis.pump(near[0], self.far), self.from_redis.pump(far[0], self.near), return_exceptions=True
        )

    async def ended(self):
        with contextlib.suppress(asyncio.CancelledError):
            await self.pumps
        self.near.close()
        self.far.close()

    def cut(self):
        """Ends both connections. What is in transit is lost."""
        self.near.transport.abort()
        self.far.transport.abort()
        self.pumps.cancel()


class Proxy:
    """Listens for the server on `port`. `rate` (bytes per second) and `chunk` (bytes) are those of new connections."""

    def __init__(self, port):
        self.redis_port = port
        self.rate = None
        self.chunk = 1 << 16
        self.refuses = False
        self.connections = []

    async def start(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    async def accept(self, reader, writer):
        try:
            if self.refuses:
                raise ConnectionRefusedError
            far = await asyncio.open_connection("127.0.0.1", self.redis_port)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self, (reader, writer), far)
        self.connections.append(connection)
        await connection.ended()

    def last(self):
        return self.connections[-1]

    def close(self):
        self.server.close()
        for connection in self.connections:
            connection.cut()
