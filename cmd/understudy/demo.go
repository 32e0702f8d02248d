package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/cli"
	"understudy.dev/cmd/understudy/internal/demo"
)

// Defaults of generated flow: 50,000 operations in less than 20 s with all else.
const (
	demoRate     = 5000
	demoDuration = 10 * time.Second
)

func demoCommand(e *cli.Env) *cobra.Command {
	var cfg demo.Config
	c := &cobra.Command{
		Use: "demo", GroupID: "run",
		Short: "Watch a primary die under load and a standby take over with nothing lost",
		Long: "Starts a journal, a primary and a standby as processes of their own, submits orders, kills the primary with\n" +
			"SIGKILL, promotes the standby, and checks what clients were told against the journal. It exits with 0 only\n" +
			"if every check passed.",
		Example: "  " + e.App.Name + " demo\n" +
			"  " + e.App.Name + " demo --orders day.ops.csv.zst --fills fills.csv --kill-after 75000",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen := cmd.Flags().Changed
			if !chosen("seed") {
				cfg.Seed = rand.Uint64N(1_000_000)
			}
			if cfg.Orders != "" && !chosen("rate") {
				cfg.Rate = 0
			}
			if cfg.Orders != "" && !chosen("duration") {
				cfg.Duration = 0
			}
			if chosen("kill-after") && cfg.KillAfter < 1 {
				return cli.WithCode(admin.ExitUsage, fmt.Errorf("--kill-after %d: want 1 or more, or leave it out for a random one", cfg.KillAfter))
			}
			return runDemo(cmd.Context(), e, cfg)
		},
	}
	fl := c.Flags()
	fl.StringVar(&cfg.Orders, "orders", "", "`FILE` of operations (n,ts,op,id,side,price,qty; may be .zst) (default: generated from --seed)")
	fl.StringVar(&cfg.Fills, "fills", "", "write the fills that were answered to `FILE` (n,maker_id,price,qty)")
	fl.IntVar(&cfg.KillAfter, "kill-after", 0, "kill the primary after so many `OPERATIONS` (default: random, from --seed)")
	fl.Float64Var(&cfg.Rate, "rate", demoRate, "`OPERATIONS` per second; 0 with --orders, and its default there: as fast as they are answered")
	fl.DurationVar(&cfg.Duration, "duration", demoDuration, "how long to submit at --rate; with --orders by default all of the file")
	fl.Uint64Var(&cfg.Seed, "seed", 0, "of the generated flow and the moment of the kill (default: random)")
	fl.BoolVar(&cfg.Keep, "keep", false, "keep the journal and the logs")
	return c
}

// errNoReader ends a demo whose output was closed.
var errNoReader = errors.New("nobody reads the output any more")

// exitInterrupted is the exit code of a demo that was ended before its end.
const exitInterrupted = 130

// An output ends the demo when nobody reads it any more.
type output struct {
	io.Writer
	end context.CancelCauseFunc
}

func (o output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		o.end(errNoReader)
	}
	return n, err
}

// runDemo shows the demo. An output that nobody reads any more is an interruption:
// SIGPIPE would end this process and leave the data behind.
func runDemo(ctx context.Context, e *cli.Env, cfg demo.Config) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	broken := make(chan os.Signal, 1) // of any connection: writing to it says so itself
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	cfg.Binary, cfg.JSON, cfg.Quiet, cfg.Stdout, cfg.Stderr = binary, e.Global.JSON, e.Global.Quiet, output{e.Stdout, end}, e.Stderr
	_, err = demo.Run(ctx, cfg)
	var usage *demo.UsageError
	switch {
	case errors.As(err, &usage):
		return cli.WithCode(admin.ExitUsage, err)
	case errors.Is(context.Cause(ctx), errNoReader):
		return cli.WithCode(exitInterrupted, errNoReader)
	case errors.Is(err, context.Canceled):
		return err
	case err != nil:
		return cli.WithCode(1, err)
	}
	return nil
}
