// Command scalecrafter measures what makes a diffusion model repeat objects
// above its training resolution, and what stops it.
//
//	go run . -config configs/ablate_dilation.toml
//	go run . train -config configs/train_critters.toml
//	go run . import -from ../ScaleCrafter -o configs/schedules
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"scalecrafter/experiments"
)

func main() { os.Exit(run()) }

// run ends with 0 when all is done, 1 when something failed, 2 on bad input
// and 130 when interrupted. A first Ctrl-C lets the program stop in order, a
// second one ends it at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	args := os.Args[1:]
	if len(args) > 0 {
		if command, ok := commands[args[0]]; ok {
			return command(ctx, args[1:])
		}
	}
	return experiments.Main(ctx, args, os.Stdout, os.Stderr, experiments.OpenModel)
}

// commands are the subcommands; without one an experiment runs.
var commands = map[string]func(ctx context.Context, args []string) int{
	"train": func(ctx context.Context, args []string) int {
		return experiments.Train(ctx, args, os.Stdout, os.Stderr)
	},
	"report": func(ctx context.Context, args []string) int {
		return experiments.Report(ctx, args, os.Stdout, os.Stderr)
	},
	"import": func(ctx context.Context, args []string) int {
		return experiments.Import(ctx, args, os.Stdout, os.Stderr)
	},
	"bench": func(ctx context.Context, args []string) int {
		return experiments.Bench(ctx, args, os.Stdout, os.Stderr)
	},
	"disperse": func(_ context.Context, args []string) int {
		return experiments.Disperse(args, os.Stdout, os.Stderr)
	},
}
