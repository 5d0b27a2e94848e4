package experiments

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files reads a folder's files.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A report drawn again from its folder is the same, byte for byte, at one size
// and at several, and needs nothing but the folder.
func TestReportAgain(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"one size": fakeConfig, "sizes": panelConfig} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			o := runMain(context.Background(), &fakeEngine{}, "-config", writeConfig(t, text), "-out", root)
			if o.code != ExitDone {
				t.Fatalf("exit %d\n%s", o.code, o.stderr)
			}
			folder := filepath.Join(t.TempDir(), "moved")
			if err := os.Rename(filepath.Join(root, "fake"), folder); err != nil {
				t.Fatal(err)
			}
			want := files(t, folder)
			for path := range want {
				rel, _ := filepath.Rel(folder, path)
				if strings.Contains(path, "report.") || strings.Contains(rel, "figures") || strings.Contains(rel, "tables") {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
			}
			var stdout, stderr bytes.Buffer
			if code := Report(context.Background(), []string{folder}, &stdout, &stderr); code != ExitDone || stderr.Len() > 0 {
				t.Fatalf("exit %d\n%s", code, stderr.String())
			}
			got := files(t, folder)
			for path := range want {
				if got[path] != want[path] {
					t.Errorf("%s differs", path)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d files, want %d", len(got), len(want))
			}
			if want := strings.Replace(o.stdout, filepath.Join(root, "fake"), folder, 1); stdout.String() != want {
				t.Errorf("shows\n%s\nwant\n%s", stdout.String(), want)
			}
		})
	}
}

func TestReportRefuses(t *testing.T) {
	t.Parallel()
	empty, broken, lost := t.TempDir(), t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(broken, "summary.json"): "{",
		filepath.Join(lost, "summary.json"):   `{"version": 1, "panels": [{"folder": "../x", "summary": {"version": 1}}]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "name the folder of a run"},
		{[]string{"-fast", empty}, "flag provided but not defined"},
		{[]string{empty}, "no such file"},
		{[]string{broken}, "run the experiment again"},
		{[]string{lost}, `panel "../x" is not a folder inside it`},
	} {
		var stdout, stderr bytes.Buffer
		if code := Report(context.Background(), tt.args, &stdout, &stderr); code != ExitBadInput || !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%v: exit %d, %q, want %q", tt.args, code, stderr.String(), tt.want)
		}
	}
}
