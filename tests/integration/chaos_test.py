#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Many sessions append through a proxy that breaks their connections: what
the server has in the end is what was sent, byte for byte.

    chaos_test.py --mnemed PATH --mkmodel PATH --appends PATH --source DIR [--long]
"""

import argparse
import asyncio
import collections
import pathlib
import random
import socket
import struct
import sys
import tempfile

import daemon as daemons


class BreakingProxy:
    """Forwards connections to one address and breaks each of them after a
    random number of bytes: by a reset, by closing one direction first, or by
    forwarding nothing for a while before the reset."""

    WAYS = ("reset", "half-close", "stall", "close")

    def __init__(self, upstream, numbers, mean_bytes):
        host, port = upstream.rsplit(":", 1)
        self.upstream = (host, int(port))
        self.numbers = numbers
        self.mean_bytes = mean_bytes
        self.broken = collections.Counter()
        self.address = None

    async def start(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, client_reader, client_writer):
        try:
            reader, writer = await asyncio.open_connection(*self.upstream)
        except OSError:
            client_writer.close()
            return
        way = self.numbers.choice(self.WAYS)
        left = [self.numbers.expovariate(1 / self.mean_bytes)]
        used_up = asyncio.Event()
        pumps = [asyncio.create_task(self._pump(client_reader, writer, left, used_up)),
                 asyncio.create_task(self._pump(reader, client_writer, left, used_up))]
        end = asyncio.create_task(used_up.wait())
        await asyncio.wait([*pumps, end], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, end, return_exceptions=True)
        if used_up.is_set():
            self.broken[way] += 1
            if way == "half-close":
                half = self.numbers.choice((writer, client_writer))
                try:
                    half.write_eof()
                except OSError:
                    pass  # It is gone already.
                await asyncio.sleep(self.numbers.uniform(0, 0.2))
            elif way == "stall":
                await asyncio.sleep(self.numbers.uniform(0, 1))
        for side in (writer, client_writer):
            if way != "close":
                linger = struct.pack("ii", 1, 0)  # close sends a reset
                side.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger)
            side.transport.abort()

    @staticmethod
    async def _pump(reader, writer, left, used_up):
        try:
            while data := await reader.read(4096):
                part = data[:max(0, int(left[0]))]
                left[0] -= len(data)
                writer.write(part)
                await writer.drain()
                if left[0] <= 0:
                    used_up.set()
                    await asyncio.sleep(3600)  # until cancelled
        except OSError:
            pass


async def break_appends(args, daemon, text, sessions, size, mean_bytes):
    proxy = BreakingProxy(daemon.address, random.Random(args.seed), mean_bytes)
    async with await proxy.start():
        appends = await asyncio.create_subprocess_exec(
            args.appends, daemon.address, proxy.address, text, str(sessions), str(size),
            str(args.seed))
        status = await appends.wait()
    print("connections broken:", dict(proxy.broken))
    assert status == 0, f"chaos_appends ended with {status}"
    missing = set(BreakingProxy.WAYS) - set(proxy.broken)
    assert not missing, f"no connection broke by {missing}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("mnemed", "mkmodel", "appends", "source"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mneme-chaos-") as folder:
        text = pathlib.Path(folder) / "text"
        sources = sorted(pathlib.Path(args.source).glob("*/README.md"))
        text.write_bytes(b"".join(path.read_bytes() for path in sources))
        model = daemons.make_model(args.mkmodel, folder)
        size, mean = (100_000, 20_000) if args.long else (8_000, 5_000)
        with daemons.Daemon(args.mnemed, model, folder) as daemon:
            try:
                asyncio.run(break_appends(args, daemon, text, 50, size, mean))
            except AssertionError:
                daemon.show_log()
                raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
