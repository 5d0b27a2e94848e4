package weights

import "syscall"

// dropPages gives whole pages of a mapped file back. The call cannot fail on
// pages that are mapped; if it did, they would stay, and nothing would change.
func dropPages(b []byte) { _ = syscall.Madvise(b, syscall.MADV_DONTNEED) }
