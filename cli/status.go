package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
)

// statusFlags are the flags of status.
type statusFlags struct {
	watch    bool
	every    time.Duration
	exitCode bool
}

func (e *Env) statusCommand() *cobra.Command {
	var f statusFlags
	c := &cobra.Command{
		Use: "status", GroupID: groupLook,
		Short: "Show the group: who is primary, how far behind the standbys are, who can be promoted",
		Long: "Shows the group as the nodes of --admin see it. With one URL that node asks its peers. What is not known is shown\n" +
			"as ?, never as 0. With --json it prints one JSON document, with --watch one a line.",
		Example: "  " + e.App.Name + " status",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.showStatus(cmd.Context(), f) },
	}
	c.Flags().BoolVarP(&f.watch, "watch", "w", false, "show it again and again")
	c.Flags().DurationVar(&f.every, "every", time.Second, "pause between two looks of --watch")
	c.Flags().BoolVar(&f.exitCode, "exit-code", false, "exit with 7 unless every node is ready and one serves")
	return c
}

func (e *Env) showStatus(ctx context.Context, f statusFlags) error {
	if f.every <= 0 {
		return usagef("--every %v: want more than 0", f.every)
	}
	if f.watch {
		return e.watchStatus(ctx, f.every)
	}
	s, err := e.status(ctx)
	if err != nil {
		if code := exitCode(ctx, err); f.exitCode && code != admin.ExitUsage && code != exitInterrupted {
			return WithCode(exitNotInTime, err) // nobody that answers is ready
		}
		return err
	}
	if err := e.printStatus(ctx, s); err != nil {
		return err
	}
	if f.exitCode && !allReady(s) {
		return quietly(exitNotInTime)
	}
	return nil
}

// allReady reports whether every node is ready and one of them serves.
func allReady(s admin.Status) bool {
	serving := 0
	for _, n := range s.Nodes {
		switch {
		case n.Reachable && n.State == admin.Serving:
			serving++
		case !n.Reachable || n.State != admin.Following:
			return false
		}
	}
	return serving == 1
}

// watchStatus shows the status until ctx ends. A look that fails is shown too.
func (e *Env) watchStatus(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s, err := e.status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if isTerminal(e.Stdout) && !e.Global.JSON {
			fmt.Fprint(e.Stdout, "\x1b[H\x1b[2J") // home, clear
		}
		if err != nil {
			fmt.Fprintf(e.Stderr, "%s: status: %v\n", e.App.Name, err)
		} else if err := e.printStatus(ctx, s); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (e *Env) printStatus(ctx context.Context, s admin.Status) error {
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(s)
	}
	var b strings.Builder
	v := statusView{Env: e, w: &b, s: s, now: e.Now()}
	v.head()
	v.rows()
	v.absent(ctx)
	v.verdicts()
	v.namesakes()
	v.outdated()
	_, err := io.WriteString(e.Stdout, b.String())
	return err
}

// A statusView writes a status for people.
type statusView struct {
	*Env
	w   io.Writer
	s   admin.Status
	now time.Time
}

func (v *statusView) head() {
	j := v.s.Journal
	fmt.Fprintf(v.w, "%s   ", v.s.Group)
	switch {
	case v.s.Epoch == 0:
		fmt.Fprint(v.w, "no epoch yet")
	case v.s.EpochStartedAt.IsZero():
		fmt.Fprintf(v.w, "epoch %d", v.s.Epoch)
	default:
		fmt.Fprintf(v.w, "epoch %d since %s", v.s.Epoch, short(v.now.Sub(v.s.EpochStartedAt.Time)))
	}
	fmt.Fprintf(v.w, "   journal %s   ", j.URL)
	if j.TailSeq == nil {
		fmt.Fprint(v.w, "tail ?")
	} else {
		fmt.Fprintf(v.w, "tail %s (%s ago)", grouped(*j.TailSeq), short(v.now.Sub(j.TailSampledAt.Time)))
	}
	fmt.Fprintln(v.w)
	if !j.Up {
		fmt.Fprintf(v.w, "journal DOWN: %s\n", j.Error)
	}
	survives := strings.Join(j.Capabilities.Survives, ", ")
	if survives == "" {
		survives = "nothing"
	}
	fmt.Fprintf(v.w, "          an acknowledged record survives the loss of: %s   fence %s\n", survives, yesNo(j.Capabilities.ConditionalAppend))
	for _, n := range j.Capabilities.Notes {
		fmt.Fprintf(v.w, "          note: %s\n", n)
	}
	fmt.Fprintln(v.w)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

func (v *statusView) rows() {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  node\trole\tstate\tapplied\tbehind\trate\tdigest agrees\tseen")
	for i := range v.s.Nodes {
		n := &v.s.Nodes[i]
		if !n.Reachable {
			fmt.Fprintf(t, "  %s\t?\t\t\t\t\t\t\n", nameOf(n)) // all cells: a row without them ends the columns
			continue
		}
		rate := "?"
		if n.RecordsPerSecond != nil {
			rate = perSecond(*n.RecordsPerSecond)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			n.Node, n.Role, n.State, grouped(n.AppliedSeq), behind(n), rate, agrees(n), v.ago(n.SeenAt))
	}
	t.Flush() //nolint:errcheck // a strings.Builder takes everything
	i := -1   // the first line is the header
	for line := range strings.Lines(b.String()) {
		if i >= 0 && !v.s.Nodes[i].Reachable {
			line = fmt.Sprintf("%s? unreachable from here, %s\n", line[:strings.LastIndex(line, "?")], v.lastSeen(v.s.Nodes[i].SeenAt))
		}
		io.WriteString(v.w, line) //nolint:errcheck // as above
		i++
	}
}

// nameOf names a node that may never have answered.
func nameOf(n *admin.NodeStatus) string {
	if n.Node == "" {
		return strings.TrimPrefix(n.Admin, "http://")
	}
	return n.Node
}

func (v *statusView) lastSeen(t admin.Time) string {
	if t.IsZero() {
		return "never seen"
	}
	return "last seen " + v.ago(t)
}

func (v *statusView) ago(t admin.Time) string {
	return short(v.now.Sub(t.Time)) + " ago"
}

// behind tells the lag of a standby.
func behind(n *admin.NodeStatus) string {
	l := n.Lag
	switch {
	case n.State == admin.Serving:
		return "-"
	case l.Records == nil:
		return "?"
	case *l.Records == 0:
		return "0 records"
	}
	parts := []string{counted(*l.Records, "record")}
	if l.Bytes != nil {
		parts = append(parts, sized(*l.Bytes))
	}
	if l.Seconds != nil {
		parts = append(parts, shortSeconds(*l.Seconds))
	}
	if l.CatchUpSeconds != nil && *l.CatchUpSeconds >= 1 {
		parts = append(parts, "~"+shortSeconds(*l.CatchUpSeconds)+" to go")
	}
	return strings.Join(parts, ", ")
}

func agrees(n *admin.NodeStatus) string {
	switch {
	case n.Checkpoint == nil:
		return "not yet"
	case n.Checkpoint.Agrees == nil:
		return "not compared"
	case !*n.Checkpoint.Agrees:
		return "NO, after " + grouped(n.Checkpoint.Seq)
	}
	return "at " + grouped(n.Checkpoint.Seq)
}

// absent says what a node that answered knows of the primary, if that is in no row
// that serves: the node asked may have no peers.
func (v *statusView) absent(ctx context.Context) {
	from := -1
	for i := range v.s.Nodes {
		n := &v.s.Nodes[i]
		if n.Reachable && n.State == admin.Serving {
			return
		}
		if n.Reachable && from < 0 {
			from = i
		}
	}
	if from < 0 || v.s.Epoch == 0 {
		return
	}
	name := v.s.Nodes[from].Node
	var known admin.Checks
	err := v.ask(ctx, func(ctx context.Context, c *admin.Client) (err error) {
		known, err = c.Checks(ctx, name)
		return err
	})
	for i := range known.Checks {
		if c := &known.Checks[i]; err == nil && c.ID == admin.CheckPrimary {
			fmt.Fprintf(v.w, "  primary   not among these; %s says: %s\n", name, c.Detail)
		}
	}
	if v.s.Nodes[from].State != admin.Promoting && len(v.s.Nodes) == 1 {
		fmt.Fprintf(v.w, "  only %s was asked, and it has no --peers: name all nodes with --admin\n", name)
	}
}

// namesakes warns of nodes that cannot be told apart by their names.
func (v *statusView) namesakes() {
	same := sameNames(v.s.Nodes)
	for _, name := range slices.Sorted(maps.Keys(same)) {
		fmt.Fprintf(v.w, "  warn  %d processes have the name %s, at %s: start each with a --node of its own\n",
			len(same[name]), name, strings.Join(same[name], ", "))
	}
}

// outdated tells of primaries that do not know yet that they are shut out, and of
// nodes of another group than the one that was asked for.
func (v *statusView) outdated() {
	open := v.s.Epoch
	for i := range v.s.Nodes {
		open = max(open, v.s.Nodes[i].Epoch)
	}
	for i := range v.s.Nodes {
		if n := &v.s.Nodes[i]; n.Reachable && n.State == admin.Serving && n.Epoch < open {
			fmt.Fprintf(v.w, "  warn  %s still takes itself for the primary of epoch %d; epoch %d has shut it out, so it can answer nobody\n", n.Node, n.Epoch, open)
		}
	}
	if want := v.Global.Group; want != defaultGroup && want != "" && want != v.s.Group {
		fmt.Fprintf(v.w, "  warn  these are nodes of group %s, not of %s\n", v.s.Group, want)
	}
}

// verdicts tells which nodes can be promoted, and what is wrong with others.
func (v *statusView) verdicts() {
	for i := range v.s.Nodes {
		n := &v.s.Nodes[i]
		switch {
		case n.Error != "":
			fmt.Fprintf(v.w, "  warn  %s: %s\n", nameOf(n), n.Error)
		case !n.Reachable || n.State == admin.Serving || n.Promotable == nil:
		case *n.Promotable:
			fmt.Fprintf(v.w, "  ok    %s can be promoted\n", n.Node)
		default:
			fmt.Fprintf(v.w, "  warn  %s cannot be promoted: %s (see `%s`)\n", n.Node, joined(n.RefusedBy, string(n.State)), v.line("promote --dry-run --node "+shellWord(n.Node)))
		}
	}
}

// joined lists ids, or says other if there are none.
func joined(ids []admin.CheckID, other string) string {
	if len(ids) == 0 {
		return other
	}
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	return strings.Join(words, ", ")
}
