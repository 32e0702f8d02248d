package crashfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal/filejournal"
)

// create makes a file with content in folder d; durable if sync.
func create(t *testing.T, disk *crashfs.FS, name, content string, sync bool) filejournal.File {
	t.Helper()
	if err := disk.Mkdir("d"); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if err := disk.SyncDir("."); err != nil { // the folder, whether or not what is in it
		t.Fatal(err)
	}
	f, err := disk.Open(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := errors.Join(f.Sync(), disk.SyncDir("d")); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// read returns a file's content, or "absent".
func read(t *testing.T, disk *crashfs.FS, name string) string {
	t.Helper()
	f, err := disk.Open(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatACrashLeaves(t *testing.T) {
	tests := []struct {
		name string
		do   func(*testing.T, *crashfs.FS)
		want map[crashfs.Kind]string // of d/a
	}{
		{
			"synced", func(t *testing.T, d *crashfs.FS) { create(t, d, "d/a", "old", true) },
			map[crashfs.Kind]string{crashfs.Kill: "old", crashfs.None: "old", crashfs.All: "old", crashfs.Mix: "old", crashfs.Torn: "old"},
		},
		{"written over", func(t *testing.T, d *crashfs.FS) {
			f := create(t, d, "d/a", "old", true)
			if _, err := f.WriteAt([]byte("new"), 0); err != nil {
				t.Fatal(err)
			}
		}, map[crashfs.Kind]string{crashfs.Kill: "new", crashfs.None: "old", crashfs.All: "new"}},
		{"name not synced", func(t *testing.T, d *crashfs.FS) {
			f := create(t, d, "d/a", "new", false)
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}, map[crashfs.Kind]string{crashfs.Kill: "new", crashfs.None: "absent", crashfs.All: "new"}},
		{"removed", func(t *testing.T, d *crashfs.FS) {
			create(t, d, "d/a", "old", true)
			if err := d.Remove("d/a"); err != nil {
				t.Fatal(err)
			}
		}, map[crashfs.Kind]string{crashfs.Kill: "absent", crashfs.None: "old", crashfs.All: "absent"}},
		{"sync failed, the next did not", func(t *testing.T, d *crashfs.FS) {
			f := create(t, d, "d/a", "old", true)
			if _, err := f.WriteAt([]byte("new"), 0); err != nil {
				t.Fatal(err)
			}
			d.FailAt(1, crashfs.Fault{Err: syscall.EIO})
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}, map[crashfs.Kind]string{crashfs.Kill: "new", crashfs.None: "old", crashfs.All: "new"}},
		{"stopped before the sync", func(t *testing.T, d *crashfs.FS) {
			f := create(t, d, "d/a", "old", true)
			d.StopAt(2)
			if _, err := f.WriteAt([]byte("new"), 0); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); !errors.Is(err, crashfs.ErrStopped) {
				t.Fatal(err)
			}
		}, map[crashfs.Kind]string{crashfs.Kill: "new", crashfs.None: "old", crashfs.All: "new"}},
		{"short write", func(t *testing.T, d *crashfs.FS) {
			f := create(t, d, "d/a", "old", true)
			d.FailAt(1, crashfs.Fault{Err: syscall.EIO, Short: 2})
			if n, err := f.WriteAt([]byte("new"), 0); n != 2 || !errors.Is(err, syscall.EIO) {
				t.Fatal(n, err)
			}
		}, map[crashfs.Kind]string{crashfs.Kill: "ned", crashfs.None: "old"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := crashfs.New()
			tt.do(t, disk)
			for kind, want := range tt.want {
				after := disk.Crash(kind, 1)
				if got := read(t, after, "d/a"); got != want {
					t.Errorf("%v: %q, want %q", kind, got, want)
				}
				if same := bytes.Equal(after.Boot(), disk.Boot()); same != (kind == crashfs.Kill) {
					t.Errorf("%v: same boot %v", kind, same)
				}
			}
		})
	}
}

// A mix leaves old and new sectors, in every combination if asked often enough;
// a torn one also sectors that are neither. The same seed gives the same disk.
func TestMixAndTorn(t *testing.T) {
	old, now := bytes.Repeat([]byte("o"), 1024), bytes.Repeat([]byte("n"), 1024)
	disk := crashfs.New()
	f := create(t, disk, "d/a", string(old), true)
	if _, err := f.WriteAt(now, 0); err != nil {
		t.Fatal(err)
	}
	seen := map[crashfs.Kind]map[string]bool{crashfs.Mix: {}, crashfs.Torn: {}}
	torn := 0
	for seed := range uint64(100) {
		for kind := range seen {
			got := read(t, disk.Crash(kind, seed), "d/a")
			if again := read(t, disk.Crash(kind, seed), "d/a"); again != got {
				t.Fatalf("%v: seed %d gave two disks", kind, seed)
			}
			seen[kind][got] = true
			for _, s := range []string{got[:512], got[512:]} {
				if whole := s == string(old[:512]) || s == string(now[:512]); !whole {
					torn++
					if kind == crashfs.Mix {
						t.Fatalf("a mix tore a sector: %q", s)
					}
				}
			}
		}
	}
	if len(seen[crashfs.Mix]) != 4 || torn == 0 {
		t.Errorf("%d mixes of two sectors, want 4; %d torn", len(seen[crashfs.Mix]), torn)
	}
}

// A rename is there or not, as a whole.
func TestRenameIsOneChange(t *testing.T) {
	disk := crashfs.New()
	create(t, disk, "d/a", "x", true)
	if err := disk.Rename("d/a", "d/b"); err != nil {
		t.Fatal(err)
	}
	if create(t, disk, "d/c", "y", false); !errors.Is(disk.Rename("d/c", "d/b"), fs.ErrExist) {
		t.Error("a rename replaced a file")
	}
	outcomes := map[string]bool{}
	for seed := range uint64(50) {
		after := disk.Crash(crashfs.Mix, seed)
		outcomes[read(t, after, "d/a")+" "+read(t, after, "d/b")] = true
	}
	if !outcomes["x absent"] || !outcomes["absent x"] || len(outcomes) != 2 {
		t.Errorf("outcomes %v", outcomes)
	}
}

// A folder whose name was not synced may be gone, with all that was synced in it,
// and each level is a name of its own.
func TestFoldersAreLostToo(t *testing.T) {
	const file = "a/b/f"
	write := func(t *testing.T, disk *crashfs.FS, syncs ...string) {
		t.Helper()
		err := errors.Join(disk.Mkdir("a"), disk.Mkdir("a/b"))
		f, openErr := disk.Open(file, os.O_RDWR|os.O_CREATE)
		if err = errors.Join(err, openErr); err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte("x"), 0)
		err = errors.Join(err, f.Sync())
		for _, dir := range syncs {
			err = errors.Join(err, disk.SyncDir(dir))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		syncs []string
		want  string
	}{
		{[]string{"a/b", "a", "."}, "x"},
		{[]string{"a/b", "a"}, "absent"},
		{[]string{"a/b", "."}, "absent"},
		{[]string{"a", "."}, "absent"},
	}
	for _, tt := range tests {
		disk := crashfs.New()
		write(t, disk, tt.syncs...)
		if got := read(t, disk.Crash(crashfs.None, 0), file); got != tt.want {
			t.Errorf("synced %q: %q is left, want %q", tt.syncs, got, tt.want)
		}
		for _, kind := range []crashfs.Kind{crashfs.Kill, crashfs.All} {
			if got := read(t, disk.Crash(kind, 0), file); got != "x" {
				t.Errorf("synced %q, %v: %q is left", tt.syncs, kind, got)
			}
		}
	}
	disk := crashfs.New()
	write(t, disk, "a/b")
	outcomes := map[string]bool{}
	for seed := range uint64(50) {
		outcomes[read(t, disk.Crash(crashfs.Mix, seed), file)] = true
	}
	if len(outcomes) != 2 {
		t.Errorf("outcomes of two folders that were not synced: %v", outcomes)
	}
}

// What a real file system refuses about folders is refused here.
func TestFolderErrors(t *testing.T) {
	disk := crashfs.New()
	create(t, disk, "d/a", "x", true)
	for what, got := range map[string]struct{ err, want error }{
		"make one that exists":         {disk.Mkdir("d"), fs.ErrExist},
		"make the one that all are in": {disk.Mkdir("."), fs.ErrExist},
		"make one in none":             {disk.Mkdir("x/y"), fs.ErrNotExist},
		"make one in a file":           {disk.Mkdir("d/a/b"), syscall.ENOTDIR},
		"make one over a file":         {disk.Mkdir("d/a"), fs.ErrExist},
		"sync one that is not there":   {disk.SyncDir("x"), fs.ErrNotExist},
		"remove one with a file":       {disk.Remove("d"), syscall.ENOTEMPTY},
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, want %v", what, got.err, got.want)
		}
	}
	if _, err := disk.Open("d", os.O_RDONLY); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("open a folder: %v", err)
	}
}

func TestLocks(t *testing.T) {
	disk := crashfs.New()
	a := create(t, disk, "d/a", "x", true)
	b, err := disk.Open("d/a", os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	try := func(f filejournal.File) {
		ok, err := f.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ok)
	}
	try(a)
	try(b)
	a.Close()
	try(b)
	if want := []bool{true, false, true}; !slices.Equal(got, want) {
		t.Errorf("locked %v, want %v", got, want)
	}
}
