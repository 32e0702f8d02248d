#!/usr/bin/env python3
"""Prints the records of a file journal, one JSON object a line.

    read_journal.py FOLDER
It is written from FORMAT.md alone and needs nothing but Python 3.8. It checks
frames, checksums, the chain, epochs and sequence numbers, and reads up to the
first thing that is no entry: where the journal ends when nobody writes to it.
"""
import hashlib
import json
import os
import re
import struct
import sys

KINDS = {1: "command", 2: "epoch-start", 3: "session", 4: "checkpoint", 16: "device", 17: "kernel",
         18: "seed", 19: "batch-size", 20: "value", 21: "output", 22: "mode"}


def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Damaged(Exception):
    pass


def check(ok, what):
    if not ok:
        raise Damaged(what)


def segments(folder):
    """Yields (path, start, where the next one starts or None), in order."""
    found = (re.fullmatch(r"(\d{20})(?:-(\d+))?\.udj", n) for n in os.listdir(folder))
    last = {int(m[1]): m[0] for m in sorted(filter(None, found), key=lambda m: int(m[2] or 0))}
    for start, end in zip(sorted(last), sorted(last)[1:] + [None]):
        yield os.path.join(folder, last[start]), start, end


def entries(path, start, limit):
    """Yields (position, bytes) of each entry of a segment."""
    with open(path, "rb") as f:
        head = f.read(4096)
        check(head[:8] == b"UDJSEG1\n", path + ": not a segment")
        ident = head[16:32]
        check(crc32c(ident + head[12:512]) == struct.unpack_from("<I", head, 8)[0], path + ": header checksum")
        check(struct.unpack_from("<H", head, 12)[0] == 1, path + ": newer version")
        check(struct.unpack_from("<Q", head, 40)[0] == start, path + ": wrong name")
        pos = start
        while limit is None or pos < limit:
            frame = f.read(16)
            if len(frame) < 16 or crc32c(ident + frame[:12]) != struct.unpack_from("<I", frame, 12)[0]:
                break
            at, size = struct.unpack_from("<QI", frame)
            data = f.read(size)
            if at != pos or len(data) < size:
                break
            pos += 16 + size
            yield pos, data
        check(limit in (None, pos), "%s: ends at position %d, the next starts at %s" % (path, pos, limit))


def varint(data, i):
    value = shift = 0
    while True:
        byte = data[i]
        value |= (byte & 0x7F) << shift
        i, shift = i + 1, shift + 7
        if byte < 0x80:
            return value, i


def records(batch, seq, count, time):
    """Yields the records of a batch."""
    i, names = 128 + batch[15], []
    for n in range(count):
        r = {"seq": seq + n, "kind": KINDS.get(batch[i], "kind-%d" % batch[i])}
        index, i = varint(batch, i + 1)
        if index == len(names):
            size, i = varint(batch, i)
            names.append(batch[i:i + size].decode("utf-8", "replace"))
            i += size
        r["name"] = names[index]
        r["version"], i = varint(batch, i)
        delta, i = varint(batch, i)
        time += delta
        r["time"] = time
        r["client"], i = varint(batch, i)
        r["request"], i = varint(batch, i)
        low, i = varint(batch, i)
        r["low"] = r["request"] - low
        size, i = varint(batch, i)
        r["data"] = batch[i:i + size].hex()
        i += size
        yield r
    check(i == len(batch), "bytes behind the last record")


def read(folder):
    chain, epoch, owner, seq, first = bytes(32), 0, b"", 0, True
    for path, start, limit in segments(folder):
        if first and start > 0:  # the beginning was trimmed: go on from the header's cursor
            with open(path, "rb") as f:
                head = f.read(512)
            seq, chain, epoch = struct.unpack_from("<Q", head, 48)[0], head[64:96], struct.unpack_from("<Q", head, 96)[0]
            owner = head[153:153 + head[152]]
        first = False
        for pos, data in entries(path, start, limit):
            where = "%s: entry at position %d: " % (path, pos)
            check(crc32c(data[8:]) == struct.unpack_from("<I", data, 4)[0], where + "checksum")
            check(data[12] == 1, where + "newer version")
            if data[:4] == b"UDF1":
                opened = struct.unpack_from("<Q", data, 16)[0]
                if opened > epoch:
                    epoch, owner = opened, data[24:24 + data[13]]
            else:
                check(data[:4] == b"UDB1", where + "neither a batch nor a fence")
                at, count, of, time = struct.unpack_from("<QI4xQQ", data, 16)
                check(of <= epoch, where + "its epoch was never opened")
                if of == epoch:
                    check(data[128:128 + data[15]] == owner and data[96:128] == chain and at == seq + 1, where + "does not follow")
                    for r in records(data, at, count, time):
                        print(json.dumps(dict(r, epoch=epoch)))
                    seq += count
            chain = hashlib.sha256(chain + data).digest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        read(sys.argv[1])
    except (Damaged, IndexError, struct.error) as e:
        sys.exit("read_journal.py: damaged: %s" % e)
