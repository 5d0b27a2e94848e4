//go:build !linux && amd64 && !noasm

package kernels

import "errors"

// amxPermission is known for Linux alone.
func amxPermission() error { return errors.New("AMX is used on Linux only") }
