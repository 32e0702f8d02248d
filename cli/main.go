// Package cli makes a complete binary of a machine: a node that follows, serves
// and is promoted, and the commands to look at it, replay it and verify it.
//
//	func main() {
//		cli.Main(cli.App{Name: "orders", Machine: orders.Definition(), Version: "v1.4.2"})
//	}
//
// # Exit codes
//
//	0 done; healthy; equal
//	1 not done, and certainly nothing changed; what opening a journal for
//	  writing puts in order, as any writer's opening does, is said
//	2 wrong usage or configuration
//	3 outcome unknown, or done in part: the text says how far, and how to find
//	  out or go on
//	4 refused by a safety check; nothing changed
//	5 divergence found
//	6 damage: gap, bad checksum, broken chain
//	7 a condition was not reached in time
//	8 an epoch was opened and nobody serves it
//	130 interrupted: the text says if anything was done by then
//	141 not from here but from the shell, of a process that SIGPIPE ended: whoever
//	  read the output has gone, as head does
//
// Data goes to the standard output, words to the standard error. Every command
// that prints data prints JSON with --json.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/machine"
)

// An App is a binary to be: the name, the machine, and the binary's version.
type App struct {
	Name    string // of the binary; in usage and errors
	Machine machine.Definition
	Version string // of the binary; default from the build

	// Encode, if not nil, makes the newest version of a command of the words of
	// "submit NAME WORDS". Show, if not nil, is its inverse for any version in a
	// journal, "" for data that it does not understand. Decode, if not nil, puts a
	// reply to such a command into words. Without them data and replies are shown
	// as they are.
	Encode  func(name string, args []string) (version uint32, data []byte, err error)
	Show    func(name string, version uint32, data []byte) string
	Decode  func(name string, reply []byte) string
	Example string // arguments of submit, for its help; default the first command with "1"

	// Commands, if not nil, makes further commands of the binary's own.
	Commands func(e *Env) []*cobra.Command
}

// Env is what a command may touch of the world.
type Env struct {
	App            App
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Now            func() time.Time
	Global         Global

	flags *pflag.FlagSet // of every command
	did   bool           // the command has changed something, whatever comes of it
}

// Main runs the binary and ends the process with its exit code.
func Main(app App) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	env := &Env{App: app, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now}
	code := Run(ctx, env, os.Args[1:])
	stop()
	os.Exit(code)
}

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, e *Env, args []string) int {
	out := &output{w: e.Stdout}
	own := *e
	own.Stdout = out
	e = &own
	root := e.root()
	root.SetArgs(args)
	root.SetIn(e.Stdin)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err = out.judge(e.did, err); err == nil {
		return 0
	}
	return e.report(ctx, cmd, err)
}

// report prints an error as "name: command: what", with a hint if there is one,
// and returns the exit code.
func (e *Env) report(ctx context.Context, cmd *cobra.Command, err error) int {
	code := exitCode(ctx, err)
	var quiet *quietError
	if errors.As(err, &quiet) {
		return code
	}
	path := strings.ReplaceAll(cmd.CommandPath(), " ", ": ")
	fmt.Fprintf(e.Stderr, "%s: %v\n", path, err)
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintf(e.Stderr, "hint: %s\n", h.hint)
	} else if code == admin.ExitUsage {
		fmt.Fprintf(e.Stderr, "hint: %s --help\n", cmd.CommandPath())
	}
	return code
}

// exitCode finds the code of an error.
func exitCode(ctx context.Context, err error) int {
	var coded *codeError
	var corrupt *journal.CorruptError
	var diverged *machine.DivergedError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &corrupt), errors.Is(err, journal.ErrLost):
		return exitDamage
	case errors.As(err, &diverged):
		return exitDiverged
	case errors.Is(err, journalurl.ErrURL), errors.Is(err, errUsage), isUsage(err):
		return admin.ExitUsage
	case interrupted(ctx, err):
		return exitInterrupted
	}
	return admin.ExitCode(err)
}

// interrupted reports whether err is that a signal ended ctx: some say that it was
// cancelled, some by what.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// The exit codes that admin does not have.
const (
	exitDiverged    = 5
	exitDamage      = 6
	exitNotInTime   = 7
	exitInterrupted = 130
)

// errUsage marks an error as wrong usage.
var errUsage = errors.New("wrong usage")

func usagef(format string, args ...any) error {
	return &codeError{admin.ExitUsage, fmt.Errorf(format, args...)}
}

// isUsage recognises cobra's own complaints, which have no types.
func isUsage(err error) bool {
	for _, start := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires ", "invalid argument", "flag needs", "required flag", "if any flags in the group"} {
		if strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// WithCode gives err an exit code.
func WithCode(code int, err error) error { return &codeError{code, err} }

type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// WithHint adds the next step to err.
func WithHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// quietly is an error whose text the command has printed already.
func quietly(code int) error { return &codeError{code, &quietError{}} }

type quietError struct{}

func (*quietError) Error() string { return "" }
