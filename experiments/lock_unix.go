//go:build unix

package experiments

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"scalecrafter/reports/results"
)

// folderLock keeps a second process out of a folder. The kernel holds it for
// the process and drops it when the process ends, however it ends: a lock
// that a killed process left is taken over at once.
type folderLock struct {
	file *os.File
}

const lockName = ".lock"

func lockFolder(dir string) (*folderLock, error) {
	path := filepath.Join(dir, lockName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, &results.StorageError{Path: dir, Err: err}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, &results.StorageError{Path: path, Err: err}
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			who, _ := os.ReadFile(path)
			return nil, fmt.Errorf("%s is in use by process %s; wait for it, stop it, or choose another folder with -out", dir, strings.TrimSpace(string(who)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid()) // for the message above only
	}
	return &folderLock{f}, nil
}

func (l *folderLock) release() { l.file.Close() }
