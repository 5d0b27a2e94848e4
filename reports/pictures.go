package reports

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"

	xdraw "golang.org/x/image/draw"
	xfont "golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"gonum.org/v1/plot/font"

	"scalecrafter/reports/results"
)

// The grid shows the first pictures by sample index: the choice is not ours.
const (
	maxPictures = 8
	minTile     = 128 // px; smaller pictures are enlarged by a whole number
	maxTile     = 384 // px; larger ones are reduced by a whole number
	// maxEmbedded bounds the side of a picture in the HTML page, where up to
	// maxPictures lie a cell.
	maxEmbedded = 256
	// maxPixels refuses absurd files before they take the memory.
	maxPixels = 1 << 26
)

// picture is one decoded image, or the reason why there is none.
type picture struct {
	img     image.Image
	raw     []byte // the file, as read
	problem string
}

// pictureRow is the pictures of one row of the grid.
type pictureRow struct {
	cell      *results.Cell
	label     string
	reference bool
	message   string // instead of pictures
	hidden    bool   // not in the grid, only at hand
	pictures  []picture
}

// pictures is the grid: rows by cell, columns by sample.
type pictures struct {
	prompts []string
	rows    []pictureRow
	tile    int // px, side of the largest picture as drawn in the grid
}

// loadPictures reads the pictures of every row that has any: of the samples that
// the summary names, or of the first. Cells that it does not want shown are
// hidden. A file that is missing or broken becomes a placeholder, never an
// error: the numbers are worth a report without it.
func loadPictures(v *view, runDir string) *pictures {
	most := 0
	for _, r := range v.rows {
		most = max(most, len(r.cell.Images))
	}
	var columns []int
	if len(v.s.PictureColumns) > 0 {
		for _, i := range v.s.PictureColumns {
			if i >= 0 && i < most {
				columns = append(columns, i)
			}
		}
	} else {
		for i := range min(most, maxPictures) {
			columns = append(columns, i)
		}
	}
	wanted := map[string]bool{}
	for _, id := range v.s.PictureRows {
		wanted[id] = true
	}
	g := &pictures{tile: minTile}
	if len(columns) == 0 {
		return g
	}
	for _, i := range columns {
		prompt := fmt.Sprintf("sample %d", i)
		if i < len(v.s.Prompts) {
			if p := clean(v.s.Prompts[i]); p != "" {
				prompt = p
			} else {
				prompt = "(empty prompt)"
			}
		}
		g.prompts = append(g.prompts, prompt)
	}
	for _, r := range v.rows {
		row := pictureRow{cell: r.cell, label: r.tag(), reference: r.reference, hidden: !r.reference && len(wanted) > 0 && !wanted[r.cell.ID]}
		switch {
		case r.failed:
			row.message = "failed: " + r.reason
		case len(r.cell.Images) == 0 && r.reference:
			continue
		case len(r.cell.Images) == 0:
			row.message = "no pictures were kept"
		}
		if row.message == "" {
			for _, i := range columns {
				if i >= len(r.cell.Images) {
					row.pictures = append(row.pictures, picture{problem: "not drawn"})
					continue
				}
				p := readPicture(runDir, r.cell.Images[i])
				if p.img != nil {
					b := p.img.Bounds()
					g.tile = max(g.tile, min(max(b.Dx(), b.Dy()), maxTile))
				}
				row.pictures = append(row.pictures, p)
			}
		}
		g.rows = append(g.rows, row)
	}
	return g
}

// shown are the grid's rows.
func (g *pictures) shown() []pictureRow {
	var out []pictureRow
	for _, r := range g.rows {
		if !r.hidden {
			out = append(out, r)
		}
	}
	return out
}

// readPicture reads a PNG file in the run's folder.
func readPicture(runDir, name string) picture {
	raw, err := os.ReadFile(filepath.Join(runDir, filepath.FromSlash(name)))
	if err != nil {
		if os.IsNotExist(err) {
			return picture{problem: "file is missing"}
		}
		return picture{problem: "file cannot be read"}
	}
	cfg, err := png.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return picture{problem: "not a whole PNG file"}
	}
	if cfg.Width <= 0 || cfg.Height <= 0 || cfg.Width > maxPixels/cfg.Height {
		return picture{problem: fmt.Sprintf("%d×%d px is too large", cfg.Height, cfg.Width)}
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return picture{problem: "not a whole PNG file"}
	}
	return picture{img: img, raw: raw}
}

// resized scales img to fit a square of side px: enlarged by a whole factor
// with every pixel kept as a block, or reduced by a whole factor with every
// block averaged.
func resized(img image.Image, side int) image.Image {
	b := img.Bounds()
	longest := max(b.Dx(), b.Dy())
	if k := side / longest; k > 1 {
		out := image.NewNRGBA(image.Rect(0, 0, k*b.Dx(), k*b.Dy()))
		xdraw.NearestNeighbor.Scale(out, out.Bounds(), img, b, draw.Src, nil)
		return out
	}
	k := (longest + side - 1) / side
	if k <= 1 {
		return img
	}
	out := image.NewNRGBA64(image.Rect(0, 0, max(b.Dx()/k, 1), max(b.Dy()/k, 1)))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			var sum [4]uint64
			n := uint64(0)
			for j := range k {
				for i := range k {
					px, py := b.Min.X+x*k+i, b.Min.Y+y*k+j
					if px >= b.Max.X || py >= b.Max.Y {
						continue
					}
					r, g, bl, a := img.At(px, py).RGBA()
					sum[0] += uint64(r)
					sum[1] += uint64(g)
					sum[2] += uint64(bl)
					sum[3] += uint64(a)
					n++
				}
			}
			out.Set(x, y, color.RGBA64{uint16(sum[0] / n), uint16(sum[1] / n), uint16(sum[2] / n), uint16(sum[3] / n)})
		}
	}
	return out
}

// dataURI is the picture for the page: the file itself, or a reduced copy of
// one that is larger than side px.
func (p picture) dataURI(side int) (string, error) {
	raw := p.raw
	b := p.img.Bounds()
	if max(b.Dx(), b.Dy()) > side {
		var buf bytes.Buffer
		if err := png.Encode(&buf, resized(p.img, side)); err != nil {
			return "", fmt.Errorf("reports: reduce picture: %w", err)
		}
		raw = buf.Bytes()
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(raw), nil
}

// Inks and sizes of the grid in px.
const (
	gridGap   = 6
	gridLabel = 210
	gridLine  = 17 // line height
)

// typeface draws text of one size and weight.
type typeface struct {
	face xfont.Face
}

// newTypeface is the plots' sans-serif at size px.
func newTypeface(size float64, weight xfont.Weight) (typeface, error) {
	f := font.DefaultCache.Lookup(font.Font{Typeface: "Liberation", Variant: "Sans", Weight: weight}, font.Length(size))
	face, err := opentype.NewFace(f.Face, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: xfont.HintingFull})
	if err != nil {
		return typeface{}, fmt.Errorf("reports: font: %w", err)
	}
	return typeface{face}, nil
}

func (t typeface) width(s string) int { return xfont.MeasureString(t.face, s).Ceil() }

func (t typeface) fits(px int) func(string) bool {
	return func(s string) bool { return t.width(s) <= px }
}

// lines wraps s to px and to at most n lines.
func (t typeface) lines(s string, px, n int) []string {
	all := wrap(s, t.fits(px))
	if len(all) > n {
		all = all[:n]
		last := []rune(all[n-1])
		for len(last) > 0 && t.width(string(last)+"…") > px {
			last = last[:len(last)-1]
		}
		all[n-1] = string(last) + "…"
	}
	return all
}

// draw writes the lines with the first one's top at y.
func (t typeface) draw(dst draw.Image, c color.Color, x, y int, lines []string) {
	for i, line := range lines {
		d := xfont.Drawer{Dst: dst, Src: image.NewUniform(c), Face: t.face,
			Dot: fixed.P(x, y+i*gridLine+gridLine-4)}
		d.DrawString(line)
	}
}

// png draws the grid: labels left, prompts on top, reference rows first. It
// returns nil where there is no picture at all.
func (g *pictures) png() ([]byte, error) {
	if len(g.prompts) == 0 {
		return nil, nil
	}
	text, err := newTypeface(13, xfont.WeightNormal)
	if err != nil {
		return nil, err
	}
	strong, err := newTypeface(13, xfont.WeightBold)
	if err != nil {
		return nil, err
	}
	captions := make([][]string, len(g.prompts))
	head := 0
	for i, p := range g.prompts {
		captions[i] = text.lines(p, g.tile, 4)
		head = max(head, len(captions[i]))
	}
	rows := g.shown()
	width := gridGap + gridLabel + len(g.prompts)*(g.tile+gridGap)
	height := gridGap + head*gridLine + gridGap
	for i, r := range rows {
		if i > 0 && rows[i-1].reference && !r.reference {
			height += 2 * gridGap
		}
		height += r.height(g.tile) + gridGap
	}
	out := image.NewNRGBA(image.Rect(0, 0, width, height))
	draw.Draw(out, out.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	for i, c := range captions {
		text.draw(out, muted, gridGap+gridLabel+i*(g.tile+gridGap), gridGap+(head-len(c))*gridLine, c)
	}
	y := 2*gridGap + head*gridLine
	for i, r := range rows {
		if i > 0 && rows[i-1].reference && !r.reference {
			rule := image.Rect(gridGap, y, width-gridGap, y+1)
			draw.Draw(out, rule, image.NewUniform(gridline), image.Point{}, draw.Src)
			y += 2 * gridGap
		}
		h := r.height(g.tile)
		label := strong.lines(r.label, gridLabel-12, max(h/gridLine, 1))
		strong.draw(out, ink, gridGap, y+(h-len(label)*gridLine)/2, label)
		x := gridGap + gridLabel
		if r.message != "" {
			line := text.lines(r.message, width-x-gridGap, 2)
			text.draw(out, muted, x, y+(h-len(line)*gridLine)/2, line)
		}
		for _, p := range r.pictures {
			g.tileAt(out, p, text, image.Rect(x, y, x+g.tile, y+g.tile))
			x += g.tile + gridGap
		}
		y += h + gridGap
	}
	var b bytes.Buffer
	if err := png.Encode(&b, out); err != nil {
		return nil, fmt.Errorf("reports: picture grid: %w", err)
	}
	return b.Bytes(), nil
}

func (r pictureRow) height(tile int) int {
	if r.message != "" {
		return 2 * gridLine
	}
	return tile
}

// tileAt draws one picture, centred, or its placeholder.
func (g *pictures) tileAt(dst draw.Image, p picture, t typeface, at image.Rectangle) {
	if p.img == nil {
		draw.Draw(dst, at, image.NewUniform(plainInk), image.Point{}, draw.Src)
		lines := t.lines(p.problem, at.Dx()-12, 3)
		t.draw(dst, muted, at.Min.X+6, at.Min.Y+(at.Dy()-len(lines)*gridLine)/2, lines)
		return
	}
	img := resized(p.img, g.tile)
	b := img.Bounds()
	off := image.Pt((at.Dx()-b.Dx())/2, (at.Dy()-b.Dy())/2)
	r := image.Rectangle{Min: at.Min.Add(off), Max: at.Min.Add(off).Add(b.Size())}
	draw.Draw(dst, r, img, b.Min, draw.Over)
}
