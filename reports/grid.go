package reports

import "io"

// Grid writes a table: the first column is text, the others are numbers or
// short words, set right.
func Grid(w io.Writer, head []string, rows [][]string) error {
	return renderTable(newTable(w, len(head)), head, rows)
}
