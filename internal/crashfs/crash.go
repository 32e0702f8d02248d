package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A Kind says what of the unsynced changes a crash leaves on the disk.
type Kind uint8

// The kinds of crash.
const (
	// Kill ends the processes and not the machine: all that was written is there,
	// synced or not, and the boot id stays.
	Kill Kind = iota
	// None leaves nothing that was not synced.
	None
	// All leaves everything.
	All
	// Mix leaves each sector and each change of a folder by chance.
	Mix
	// Torn does too, and half of the unsynced sectors are torn.
	Torn
)

// Kinds are all of them.
var Kinds = []Kind{Kill, None, All, Mix, Torn}

// String returns the kind's name.
func (k Kind) String() string { return [...]string{"kill", "none", "all", "mix", "torn"}[k] }

// Crash returns a file system with what a crash at this moment leaves, from a
// seed. It shares nothing with f, which can go on.
func (f *FS) Crash(kind Kind, seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, uint64(kind)))
	boot := f.boot
	if kind != Kill {
		n, _ := strconv.Atoi(strings.TrimPrefix(f.boot, "boot-"))
		boot = "boot-" + strconv.Itoa(n+1)
	}
	after := newFS(boot)
	c := crash{kind: kind, rng: rng, copies: make(map[*inode]*inode)}
	after.root = c.dir(f.root)
	return after
}

// A crash makes the disk of one outcome.
type crash struct {
	kind   Kind
	rng    *rand.Rand
	copies map[*inode]*inode // a file has one content, whatever its names
}

// dir returns what is left of a folder and of all below it.
func (c *crash) dir(d *dir) *dir {
	left := d.crash(c.kind, c.rng)
	names := make(map[string]*inode)
	for _, name := range slices.Sorted(maps.Keys(left)) {
		names[name] = c.inode(left[name])
	}
	return &dir{now: names, synced: maps.Clone(names)}
}

func (c *crash) inode(n *inode) *inode {
	if c.copies[n] == nil {
		if n.dir != nil {
			c.copies[n] = &inode{dir: c.dir(n.dir)}
		} else {
			c.copies[n] = n.crash(c.kind, c.rng)
		}
	}
	return c.copies[n]
}

// crash returns the names that are left.
func (d *dir) crash(kind Kind, rng *rand.Rand) map[string]*inode {
	if kind == Kill || kind == All {
		return maps.Clone(d.now)
	}
	names := maps.Clone(d.synced)
	for _, c := range d.changes {
		if kind != None && rng.IntN(2) == 0 {
			apply(names, c)
		}
	}
	return names
}

// crash returns the content that is left.
func (n *inode) crash(kind Kind, rng *rand.Rand) *inode {
	size := len(n.synced)
	if kind == Kill || kind == All || kind != None && rng.IntN(2) == 0 {
		size = len(n.data)
	}
	left := &inode{}
	left.grow(size)
	if kind == Kill || kind == All {
		copy(left.data, n.data)
	} else {
		copy(left.data, n.synced)
	}
	if kind == Mix || kind == Torn {
		for s := 0; s*sectorBytes < size; s++ {
			n.mixSector(left.data, s, kind, rng)
		}
	}
	left.synced = slices.Clone(left.data)
	return left
}

// mixSector chooses what is left of sector s among all that it was since the
// last sync. A mapped sector has changed if it differs.
func (n *inode) mixSector(dst []byte, s int, kind Kind, rng *rand.Rand) {
	versions := n.past[s]
	now := sector(n.data, s)
	if len(versions) == 0 && string(now) == string(sector(n.synced, s)) {
		return
	}
	versions = append(slices.Clone(versions), now)
	pick := func() []byte {
		if i := rng.IntN(len(versions) + 1); i < len(versions) {
			return versions[i]
		}
		return sector(n.synced, s)
	}
	whole := make([]byte, sectorBytes)
	copy(whole, pick())
	if kind == Torn && rng.IntN(2) == 0 {
		cut := rng.IntN(sectorBytes)
		clear(whole[cut:])
		if other := pick(); len(other) > cut {
			copy(whole[cut:], other[cut:])
		}
	}
	copy(sector(dst, s), whole)
}

// Corrupt gives the content of a file to change, as damage would: f returns the
// new content, which is durable at once. No file may be open.
func (f *FS) Corrupt(name string, change func(data []byte) []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	if err != nil {
		return err
	}
	data := change(slices.Clone(d.now[base].data))
	n := &inode{}
	n.grow(len(data))
	copy(n.data, data)
	n.synced = slices.Clone(data)
	d.now[base] = n
	d.synced[base] = n
	return nil
}
