//go:build !unix

package results

import (
	"errors"
	"os"
	"syscall"
)

// errorDiskFull is Windows' ERROR_DISK_FULL.
const errorDiskFull = syscall.Errno(112)

func isDiskFull(err error) bool { return errors.Is(err, errorDiskFull) }

// alive reports whether a process of this machine exists.
func alive(pid int) bool {
	_, err := os.FindProcess(pid)
	return err == nil
}
