//go:build unix

package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTheEndLogIsAllocatedAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ends.log")
	logAt(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = endLogSize
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Blocks*512 < size {
		t.Errorf("%d of %d bytes are allocated: a full disk would stop it", stat.Blocks*512, size)
	}
	if info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes, mode %o", info.Size(), info.Mode().Perm())
	}
}
