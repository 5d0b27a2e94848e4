package experiments

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// commit is the revision that the program was built from: the one stamped
// into the binary or, as with go run, the one checked out around the working
// directory; "unknown" where neither is there.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		revision, dirty := "", ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = " with changes"
			}
		}
		if revision != "" {
			return revision + dirty
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return "unknown"
	}
	for {
		if revision := headOf(filepath.Join(dir, ".git")); revision != "" {
			return revision
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "unknown"
		}
		dir = up
	}
}

// headOf reads the checked-out revision of a git folder; "" where it cannot.
func headOf(git string) string {
	head, err := os.ReadFile(filepath.Join(git, "HEAD"))
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(string(head))
	ref, ok := strings.CutPrefix(text, "ref: ")
	if !ok {
		return text
	}
	if id, err := os.ReadFile(filepath.Join(git, filepath.FromSlash(ref))); err == nil {
		return strings.TrimSpace(string(id))
	}
	packed, err := os.ReadFile(filepath.Join(git, "packed-refs"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(packed)) {
		if id, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == ref {
			return id
		}
	}
	return ""
}
