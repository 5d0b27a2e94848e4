//go:build !unix

package experiments

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"scalecrafter/reports/results"
)

// folderLock keeps a second process out of a folder: a file that names the
// process. A lock whose process is gone is taken over.
type folderLock struct {
	path string
}

const lockName = ".lock"

func lockFolder(dir string) (*folderLock, error) {
	path := filepath.Join(dir, lockName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, &results.StorageError{Path: dir, Err: err}
	}
	for range 2 {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			fmt.Fprintf(f, "%d\n", os.Getpid())
			return &folderLock{path}, f.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, &results.StorageError{Path: path, Err: err}
		}
		who, _ := os.ReadFile(path)
		pid, err := strconv.Atoi(strings.TrimSpace(string(who)))
		if err == nil {
			if _, err := os.FindProcess(pid); err == nil {
				return nil, fmt.Errorf("%s is in use by process %d; wait for it, stop it, or choose another folder with -out", dir, pid)
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &results.StorageError{Path: path, Err: err}
		}
	}
	return nil, fmt.Errorf("lock %s: another process is faster; try again", path)
}

func (l *folderLock) release() { os.Remove(l.path) }
