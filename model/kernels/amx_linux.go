//go:build linux && amd64 && !noasm

package kernels

import (
	"fmt"
	"syscall"
)

// amxPermission asks Linux for AMX's tile data, once for the whole process: its state is large, so that a process has to say
// that it wants it (Documentation/arch/x86/xstate.rst). Signal handlers then get the tiles saved too, and Go's preemption by
// signal does not disturb a kernel at work.
func amxPermission() error {
	const (
		reqXCompPerm = 0x1023 // ARCH_REQ_XCOMP_PERM
		xTileData    = 18     // XFEATURE_XTILEDATA
	)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, reqXCompPerm, xTileData, 0); errno != 0 {
		return fmt.Errorf("Linux does not permit AMX tiles to this process: %w", errno)
	}
	return nil
}
