package cli

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
)

// Global holds the flags that every command has.
type Global struct {
	Journal   string
	Group     string
	Admin     []string
	TokenFile string
	JSON      bool
	Quiet     bool
	Timeout   time.Duration
	LogLevel  string
	LogFormat string
}

// defaultGroup is the group of nodes that were not told another.
const defaultGroup = "default"

// The groups of commands, in the order of help.
const (
	groupRun     = "run"
	groupLook    = "look"
	groupRoles   = "roles"
	groupJournal = "journal"
	groupReplay  = "replay"
	groupMeasure = "measure"
)

func (e *Env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   e.App.Name,
		Short: "Journals every command of " + e.App.Machine.Name + ", replays it bit for bit, and keeps a standby ready",
		Long: e.App.Name + " journals every command before it is answered, replays the journal bit for bit, and keeps a\n" +
			"standby that takes over without losing one answered command.",
		Example:       "  " + e.App.Name + " serve --bootstrap --journal embedded:understudy-data",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       e.App.version(),
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if e.Global.Timeout <= 0 {
				return usagef("--timeout %v: want more than 0", e.Global.Timeout)
			}
			_, err := e.logger() // a wrong flag is one whether or not the command logs
			return err
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	for _, g := range []cobra.Group{
		{ID: groupRun, Title: "Run:"},
		{ID: groupLook, Title: "Look (read-only):"},
		{ID: groupRoles, Title: "Change roles:"},
		{ID: groupJournal, Title: "Journal:"},
		{ID: groupReplay, Title: "Replay (read-only):"},
		{ID: groupMeasure, Title: "Measure:"},
	} {
		root.AddGroup(&g)
	}
	e.globalFlags(root)
	root.AddCommand(
		e.serveCommand(),
		e.submitCommand(),
		e.statusCommand(),
		e.whoCommand(),
		e.promoteCommand(),
		e.journalCommand(),
		e.captureCommand(),
		e.replayCommand(),
		e.verifyCommand(),
		e.diffCommand(),
		e.benchCommand(),
	)
	if e.App.Commands != nil {
		root.AddCommand(e.App.Commands(e)...)
	}
	return root
}

func (e *Env) globalFlags(root *cobra.Command) {
	g, f := &e.Global, root.PersistentFlags()
	e.flags = f
	env := func(name, value string) string {
		if v := e.Getenv("UNDERSTUDY_" + name); v != "" {
			return v
		}
		return value
	}
	f.StringVar(&g.Journal, "journal", env("JOURNAL", "embedded:understudy-data"), "journal `URL` ($UNDERSTUDY_JOURNAL)")
	f.StringVar(&g.Group, "group", env("GROUP", defaultGroup), "`NAME` of the group: one machine, one history ($UNDERSTUDY_GROUP)")
	f.StringSliceVar(&g.Admin, "admin", strings.Split(env("ADMIN", "http://"+admin.DefaultAdmin), ","), "admin `URL`s of the nodes ($UNDERSTUDY_ADMIN)")
	f.StringVar(&g.TokenFile, "token-file", env("TOKEN_FILE", ""), "`FILE` with the admin token ($UNDERSTUDY_TOKEN_FILE)")
	f.BoolVar(&g.JSON, "json", env("OUTPUT", "") == "json", "print JSON ($UNDERSTUDY_OUTPUT=json)")
	f.BoolVarP(&g.Quiet, "quiet", "q", false, "no progress on the standard error")
	f.DurationVar(&g.Timeout, "timeout", 5*time.Second, "limit of one request")
	f.StringVar(&g.LogLevel, "log-level", env("LOG_LEVEL", "info"), "debug, info, warn or error ($UNDERSTUDY_LOG_LEVEL)")
	f.StringVar(&g.LogFormat, "log-format", env("LOG_FORMAT", "text"), "text or json ($UNDERSTUDY_LOG_FORMAT)")
}

// logger returns the logger that the flags ask for, on the standard error.
func (e *Env) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.Global.LogLevel)); err != nil {
		return nil, usagef("--log-level %s: want debug, info, warn or error", e.Global.LogLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch e.Global.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(e.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(e.Stderr, o)), nil
	}
	return nil, usagef("--log-format %s: want text or json", e.Global.LogFormat)
}

// version returns the binary's version, as given or from the build.
func (a App) version() string {
	if a.Version != "" {
		return a.Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// progressf says something about long work on the standard error.
func (e *Env) progressf(format string, args ...any) {
	if !e.Global.Quiet {
		fmt.Fprintf(e.Stderr, format, args...)
	}
}
