// Package reports turns a results.Summary into what people read: terminal,
// Markdown, LaTeX and CSV tables, plots, a grid of pictures and one HTML page
// that needs no other file. It reads results only: it knows no model and no
// metric, recomputes no number and never touches the clock, so equal input
// gives equal bytes.
package reports

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"scalecrafter/reports/results"
)

// artifact is one finished file of the report.
type artifact struct {
	name string // slash-separated, relative to the run's folder
	data []byte
}

// Write renders the whole report of s and puts it into runDir, which exists
// and holds the images that s names:
//
//	report.html              the page, self-contained
//	report.md, report.txt    the same answer and tables as text
//	tables/*.csv, *.tex      results and effects, full precision and booktabs;
//	                         receipt_*.csv: what was executed, one line a layer and step
//	figures/*.png, *.svg     plots, pictures.png and the receipts
//
// Everything is rendered in memory before the first file is touched, so an
// error from s leaves an older report whole. Each file is then replaced
// atomically (temporary file, rename), report.html last; figures that
// an older report left and this one lacks are removed. A picture that is
// missing or cannot be read does not fail the report: a placeholder says why.
func Write(s *results.Summary, runDir string) error {
	files, err := render(s, runDir)
	if err != nil {
		return err
	}
	return put(files, runDir)
}

// put writes finished files as Write promises.
func put(files []artifact, runDir string) error {
	keep := make(map[string]bool, len(files))
	for _, f := range files {
		keep[f.name] = true
		path := filepath.Join(runDir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("reports: %w; make the run's folder writable", err)
		}
		if err := replaceFile(path, f.data); err != nil {
			return fmt.Errorf("reports: %w", err)
		}
	}
	return removeStale(runDir, keep)
}

// render makes every file of the report, in the order in which they are
// written.
func render(s *results.Summary, runDir string) ([]artifact, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	v := newView(s)
	plots, err := drawPlots(v)
	if err != nil {
		return nil, err
	}
	receipts, err := drawReceipts(v)
	if err != nil {
		return nil, err
	}
	pictures := loadPictures(v, runDir)
	grid, err := pictures.png()
	if err != nil {
		return nil, err
	}

	var files []artifact
	add := func(name string, data []byte) { files = append(files, artifact{name, data}) }
	for _, f := range append(append([]figure{}, plots...), receipts...) {
		add("figures/"+f.name+".svg", f.svg)
		add("figures/"+f.name+".png", f.png)
	}
	if grid != nil {
		add("figures/pictures.png", grid)
	}
	add("tables/results.csv", resultsCSV(v))
	add("tables/effects.csv", effectsCSV(v))
	add("tables/results.tex", resultsLaTeX(v))
	if v.effects != nil {
		add("tables/effects.tex", effectsLaTeX(v))
	}
	if v.comparisons != nil {
		add("tables/comparisons.csv", comparisonsCSV(v))
	}
	for i := range v.rows {
		if r := &v.rows[i]; r.hasReceipt() {
			add("tables/"+r.receiptName(i)+".csv", receiptCSV(r.cell))
		}
	}
	var text bytes.Buffer
	if err := terminal(&text, v); err != nil {
		return nil, err
	}
	add("report.txt", text.Bytes())
	md, err := markdown(v, plots, receipts, grid != nil)
	if err != nil {
		return nil, err
	}
	add("report.md", md)
	page, err := htmlPage(v, plots, receipts, pictures)
	if err != nil {
		return nil, err
	}
	add("report.html", page)
	return files, nil
}

// Terminal writes the tables of s and, last, where the eye rests, its
// findings.
func Terminal(w io.Writer, s *results.Summary) error {
	if err := check(s); err != nil {
		return err
	}
	return terminal(w, newView(s))
}

// replaceFile puts data at path so that a reader sees the old bytes or the
// new ones, never a part. It does not wait for the disk: a report that a power
// cut spoils is made again from the results in seconds.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails, as it should, once renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// removeStale deletes the figures and tables of an older report that the
// present one no longer has; other people's files are left alone.
func removeStale(runDir string, keep map[string]bool) error {
	for _, dir := range []string{"figures", "tables"} {
		entries, err := os.ReadDir(filepath.Join(runDir, dir))
		if err != nil {
			if os.IsNotExist(err) {
				continue
			}
			return fmt.Errorf("reports: %w", err)
		}
		for _, e := range entries {
			name := dir + "/" + e.Name()
			ours := strings.HasSuffix(name, ".svg") || strings.HasSuffix(name, ".png") ||
				name == "tables/effects.tex" || name == "tables/comparisons.csv" ||
				strings.HasPrefix(name, "tables/receipt_") && strings.HasSuffix(name, ".csv")
			if e.IsDir() || keep[name] || !ours {
				continue
			}
			if err := os.Remove(filepath.Join(runDir, filepath.FromSlash(name))); err != nil {
				return fmt.Errorf("reports: remove outdated figure: %w", err)
			}
		}
	}
	return nil
}
