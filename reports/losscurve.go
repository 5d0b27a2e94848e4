package reports

import (
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// LossCurve draws a training run's loss over its steps as a PNG at path: every
// step faintly, and their running mean. Both axes are logarithmic: a diffusion
// loss falls by powers.
func LossCurve(path string, steps, losses []float64) error {
	raw, mean := make(plotter.XYs, 0, len(steps)), make(plotter.XYs, 0, len(steps))
	running := 0.0
	const keep = 0.98
	for i, l := range losses {
		if !(l > 0) || steps[i] < 1 {
			continue // has no place on a logarithmic axis
		}
		// An average that has seen k values weighs them as if it had seen all.
		running = keep*running + (1-keep)*l
		raw = append(raw, plotter.XY{X: steps[i], Y: l})
		mean = append(mean, plotter.XY{X: steps[i], Y: running / (1 - math.Pow(keep, float64(i+1)))})
	}
	f := figure{name: "loss", title: "Training loss", alt: "training loss over steps"}
	p := newPlot()
	p.X.Label.Text, p.Y.Label.Text = "optimiser step", "loss"
	if len(raw) > 1 {
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
		faint, err := plotter.NewLine(raw)
		if err != nil {
			return err
		}
		faint.Color, faint.Width = fade(palette[0], 0.25), vg.Points(0.5)
		line, err := plotter.NewLine(mean)
		if err != nil {
			return err
		}
		line.Color, line.Width = palette[0], vg.Points(1.5)
		p.Add(plotter.NewGrid(), faint, line)
	}
	if err := f.render(plotWidth, lineHeight, func(c draw.Canvas) {
		p.Draw(draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin))
	}); err != nil {
		return err
	}
	return replaceFile(path, f.png)
}
