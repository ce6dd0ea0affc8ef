#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the golden files of engine/state/FORMAT.md, from its grammar alone."""
import hashlib
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
FINGERPRINT = "0123456789abcdef" * 4
IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
      0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]


def u8(x): return struct.pack("<B", x)
def u32(x): return struct.pack("<I", x & 0xFFFFFFFF)
def i64(x): return struct.pack("<q", x)
def f32(*x): return struct.pack("<%df" % len(x), *x)


def string(x):
    x = x.encode() if isinstance(x, str) else x
    return i64(len(x)) + x


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def head(letters, version):
    first = letters + u32(version)
    return first + u32(crc32c(first))


# -- The state ----------------------------------------------------------------

COMPUTED, TAIL = 1030, [7]
TOKENS = [100 + p for p in range(COMPUTED)] + TAIL
RECENT = TOKENS[-1024:]
LAST = COMPUTED - 1  # the last computed token
# name, kind, rows, row_floats, starts over; its rows that count
PARTS = [
    ("weights", 0, 2, 3, 1, [[LAST + 0.5] * 3] * 2),
    # Three tokens add a row each, the fourth takes them away.
    ("factors", 1, 4, 2, 1,
     [[-float(p)] * 2 for p in range(COMPUTED - COMPUTED % 4, COMPUTED)]),
    ("ring", 2, 3, 2, 1, [[float(p)] * 2 for p in range(LAST - 2, LAST + 1)]),
    ("sinks", 1, 2, 1, 0, [[-0.25], [0.75]]),
    ("hidden", 0, 1, 2, 1, [[1000.0 + LAST] * 2]),
]


def state():
    out = u32(1) + i64(4) + i64(len(PARTS))
    for name, kind, rows, row_floats, starts_over, _ in PARTS:
        out += string(name) + u8(kind) + i64(rows) + i64(row_floats)
        out += u8(starts_over)
    out += i64(COMPUTED) + u8(1)
    for tokens in (TAIL, RECENT):
        out += i64(len(tokens)) + b"".join(u32(t) for t in tokens)
    for part in PARTS:
        out += i64(len(part[5]))
    for part in PARTS:
        for row in part[5]:
            out += f32(*row)
    return out


def state_digest(pending):
    out = b"mneme-state-2" + FINGERPRINT.encode() + i64(COMPUTED) + i64(1)
    out += i64(len(TAIL)) + b"".join(i64(t) for t in TAIL)
    out += i64(len(pending)) + pending
    out += i64(len(RECENT)) + b"".join(i64(t) for t in RECENT)
    for part in PARTS:
        out += i64(len(part[5]))
        for row in part[5]:
            out += f32(*row)
    return hashlib.sha256(out).hexdigest()


# -- What is beside it --------------------------------------------------------

HISTORY = "Hello, wörld".encode()
INPUT = b"user: hi"  # of which the template wrote the first six bytes


def history():
    saved = i64(len(HISTORY)) + b"".join(u32(x) for x in IV)
    saved += HISTORY.ljust(64, b"\0")
    return u8(0) + saved + HISTORY


def pending_input():
    return (u8(0) + string(INPUT) + string("user") + u8(1) + u8(0) + u8(0) +
            u8(0) +  # not idle
            i64(1) + i64(0) + i64(6) + u8(0) +  # a mark: text
            i64(0))


def kept_reply():
    out = string("request-1") + string("digest-1") + u8(1)
    out += u8(0) + i64(5) + u8(1) + i64(1) + u8(1)  # what was asked for
    out += u8(1) + i64(3) + i64(10)  # started
    # Finished, with an error and its reason.
    out += u8(1) + string("the client went away") + u8(1)
    out += string("READER_GONE") + i64(1) + string("waited") + string("60s")
    out += u8(2) + i64(13) + i64(1031) + string("x") + u8(1) + u32(65)
    out += i64(4) + i64(3) + i64(1) + i64(2) + i64(3) + i64(4) + i64(99)
    out += i64(3) + i64(0) + i64(2) + i64(2)
    for token, logprob, likely in ((97, -0.5, 98), (98, -1.5, 97), (99, -2, -1)):
        out += u32(token) + f32(logprob) + u32(likely)
        out += f32(-0.25 if likely >= 0 else 0)
    return out


def section(number, contents):
    out = u32(number) + i64(len(contents)) + contents
    return out + u32(crc32c(out))


SNAPSHOT_HEADER = (string(FINGERPRINT) + string("avx2") + u8(0) +
                   i64(len(HISTORY)) + i64(COMPUTED + len(TAIL)))


def snapshot():
    out = head(b"MNEMESNP", 1)
    pieces = (SNAPSHOT_HEADER, history(), pending_input(), kept_reply(), state())
    for number, piece in enumerate(pieces, 1):
        out += section(number, piece)
    return out


def export():
    inside = snapshot()
    header = string("notes") + string("00112233445566778899aabbccddeeff")
    header += string("tiny") + SNAPSHOT_HEADER
    header += string(state_digest(INPUT))
    header += string(hashlib.sha256(HISTORY).hexdigest())
    header += i64(2) + string("colour") + string("blue") + string("kind")
    header += string("") + i64(3600 * 10**9) + i64(1700000000 * 10**9)
    lengths = i64(len(header)) + i64(len(inside))
    out = head(b"MNEMEEXP", 1) + lengths + u32(crc32c(lengths))
    out += header + inside
    return out + hashlib.sha256(out).digest()


(HERE / "state_v1.bin").write_bytes(state())
(HERE / "snapshot_v1.bin").write_bytes(snapshot())
(HERE / "export_v1.bin").write_bytes(export())
