#!/usr/bin/env python3
"""Prints the records of a file journal, one JSON object a line.

    read_journal.py FOLDER
It is written from FORMAT.md alone and needs nothing but Python 3.8. It misses no file, checks frames, checksums, the
chain, epochs, times and sequence numbers, and reads to where the journal ends when nobody writes to it.
"""
import hashlib
import json
import re
import struct
import sys
from pathlib import Path

KINDS = {1: "command", 2: "epoch-start", 3: "session", 4: "checkpoint", 16: "device", 17: "kernel",
         18: "seed", 19: "batch-size", 20: "value", 21: "output", 22: "mode"}
TABLE = list(range(256))
for _ in range(8):
    TABLE = [n >> 1 ^ (0x82F63B78 if n & 1 else 0) for n in TABLE]


def check(ok, what):
    if not ok:
        raise ValueError(what)


def number(data, at, kind="<Q"):
    return struct.unpack_from(kind, data, at)[0]


def summed(data, stored, at):
    """Whether the checksum of data is what is stored there."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return number(stored, at, "<I") == crc ^ 0xFFFFFFFF


def anchor(folder):
    """Returns the journal's id, and where its oldest and its newest segment start."""
    path = Path(folder, "journal.state")
    check(path.exists(), "%s: missing" % path)
    found = [path.read_bytes()[at:at + 64] for at in range(4096, 8192, 512)]
    found = [a for a in found if a[:8] == b"UDJSTAT1" and summed(bytes(16) + a[12:], a, 8)]
    check(found, "%s: no anchor" % path)
    check(all(number(a, 12, "<I") == 1 for a in found), "%s: newer version" % path)
    last = max(found, key=lambda a: (number(a, 56, "<H"), number(a, 32)))
    return last[16:32], number(last, 40), number(last, 48)


def segments(folder, ident, first, newest):
    """Yields (path, content, start, where the next one starts or None), in order."""
    found = [re.fullmatch(r"(\d{20})(?:-(\d+))?\.udj", path.name) for path in Path(folder).iterdir()]
    last = {int(m[1]): Path(folder, m[0]) for m in sorted(filter(None, found), key=lambda m: int(m[2] or 0)) if int(m[1]) >= first}
    starts = sorted(last)
    check(starts[:1] == [first] or not starts and newest == 0, "the segment that starts at %d is missing" % first)
    check(newest <= max(starts, default=0), "the segment that starts at %d is missing" % newest)
    for start, end in zip(starts, starts[1:] + [None]):
        data = last[start].read_bytes()
        check(data[:8] == b"UDJSEG1\n", "%s: not a segment" % last[start])
        check(summed(data[16:32] + data[12:512], data, 8), "%s: header checksum" % last[start])
        check(number(data, 12, "<H") == 1, "%s: newer version" % last[start])
        check(data[16:32] == ident, "%s: of another journal" % last[start])
        check(number(data, 40) == start, "%s: wrong name" % last[start])
        check(number(data, 32) <= len(data), "%s: cut short" % last[start])
        yield last[start], data, start, end


def framed(data, i, pos):
    return data[i:i + 8] == struct.pack("<Q", pos) and len(data) >= i + 16 and summed(data[16:32] + data[i:i + 12], data, i + 12)


def entries(path, data, pos, limit, mark):
    """Yields (position, bytes) of each entry of a segment."""
    mark = max([mark] + [number(data, at) for at in (512, 1024) if summed(data[16:32] + data[at:at + 8], data, at + 8)])
    i = 4096
    while pos != limit and framed(data, i, pos):
        entry = data[i + 16:i + 16 + number(data, i + 8, "<I")]
        good = entry[:4] in (b"UDB1", b"UDF1") and len(entry) >= 24 and number(entry, 8, "<I") == len(entry)
        if not good or not summed(entry[8:], entry, 4):
            break
        i, pos = i + 16 + len(entry), pos + 16 + len(entry)
        yield pos, entry
    # What is before the mark, or before a frame, was durable once. Other things that are not whole are not of the journal.
    ended = limit is None and pos >= mark and not any(framed(data, j, pos + j - i) for j in range(i + 1, len(data.rstrip(b"\0"))))
    check(pos == limit or ended, "%s: byte %d: bad entry after position %d" % (path, i, pos))


def records(batch, seq, count, time):
    """Yields the records of a batch."""
    i, names = 128 + batch[15], []

    def varint():
        nonlocal i
        value = shift = 0
        while True:
            value |= (batch[i] & 0x7F) << shift
            i, shift = i + 1, shift + 7
            if batch[i - 1] < 0x80:
                return value

    def text():
        nonlocal i
        size = varint()
        i += size
        return batch[i - size:i]

    for seq in range(seq, seq + count):
        i, r = i + 1, {"seq": seq, "kind": KINDS.get(batch[i], "kind-%d" % batch[i])}
        index = varint()
        if index == len(names):
            names.append(text().decode("utf-8", "replace"))
        r.update(name=names[index], version=varint())
        time += varint()
        r.update(time=time, client=varint(), request=varint())
        r.update(low=r["request"] - varint(), data=text().hex())
        yield r
    check(i == len(batch), "bytes behind the last record")


def read(folder):
    chain, epoch, owner, seq, now = bytes(32), 0, b"", 0, 0
    ident, first, newest = anchor(folder)
    for path, head, start, limit in segments(folder, ident, first, newest):
        if start == first:  # the beginning was perhaps trimmed: go on from the header's cursor
            seq, now, chain, epoch, owner = number(head, 48), number(head, 56), head[64:96], number(head, 96), head[153:153 + head[152]]
        for pos, data in entries(path, head, start, limit, newest):
            where = "%s: entry at position %d: " % (path, pos)
            check(data[12] == 1, where + "newer version")
            fence, of = data[:4] == b"UDF1", number(data, 16 if data[:4] == b"UDF1" else 32)
            check(fence or of <= epoch, where + "its epoch was never opened")
            if fence and of > epoch:
                epoch, owner = of, data[24:24 + data[13]]
            elif not fence and of == epoch:
                count, time = number(data, 24, "<I"), number(data, 40)
                follows = data[128:128 + data[15]] == owner and data[96:128] == chain and number(data, 16) == seq + 1
                check(follows and (count == 0 or time > now), where + "does not follow")
                for r in records(data, seq + 1, count, time):
                    print(json.dumps(dict(r, epoch=epoch)))
                seq, now = seq + count, number(data, 48) or now
            chain = hashlib.sha256(chain + data).digest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        read(sys.argv[1])
    except (ValueError, IndexError, struct.error) as e:
        sys.exit("read_journal.py: damaged: %s" % e)
