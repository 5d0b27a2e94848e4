//go:build !linux

package weights

// dropPages does nothing: the standard library has no such call here, and the
// system drops pages of a file by itself when memory is short.
func dropPages([]byte) {}
