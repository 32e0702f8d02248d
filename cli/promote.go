package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/journal"
)

// promoteFlags are the flags of promote.
type promoteFlags struct {
	node, reason, actor string
	accept              []string
	dryRun, yes         bool
	wait                time.Duration
	epoch               uint64
	minSeq              uint64
	find                string
}

func (e *Env) promoteCommand() *cobra.Command {
	var f promoteFlags
	c := &cobra.Command{
		Use: "promote", GroupID: groupRoles,
		Short: "Make a standby the primary",
		Long: "Makes a standby the primary: it drains the journal, runs every check, shuts the old primary out by a fence, applies\n" +
			"what the old primary left, and opens. A refusal comes before the fence and changes nothing (exit 4). On a terminal\n" +
			"it asks for the group's name first; elsewhere it needs --yes.",
		Example: "  " + e.App.Name + " promote --node b --dry-run\n" +
			"  " + e.App.Name + ` promote --node b --yes --reason "a: disk errors, INC-4412"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.promote(cmd, f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.node, "node", "", "`NAME` of the standby (default the node of --admin, if that is one)")
	fl.StringSliceVar(&f.accept, "accept", nil, "`CHECK`s whose warning you accept")
	fl.StringVar(&f.reason, "reason", "", "why, for the record")
	fl.StringVar(&f.actor, "actor", "", "who asks, for the record (default user@host)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "run the checks only; change nothing")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask for the group's name")
	fl.DurationVar(&f.wait, "wait", admin.DefaultWait, "how long to wait for the outcome")
	fl.Uint64Var(&f.epoch, "expect-epoch", 0, "refuse unless this `EPOCH` is the open one (default the one that status shows, if a node is level with the journal)")
	fl.Uint64Var(&f.minSeq, "expect-seq", 0, "refuse unless `SEQ` is applied before the fence")
	fl.StringVar(&f.find, "find", "", "say what became of the promotion `OPERATION`; change nothing")
	c.MarkFlagsMutuallyExclusive("dry-run", "yes", "find")
	return c
}

// promote runs the command and prints what came of it as JSON if that was asked
// for: one document, also of a failure.
func (e *Env) promote(cmd *cobra.Command, f promoteFlags) error {
	p := &promotion{Env: e, cmd: cmd, flags: f}
	err := p.carryOut(cmd.Context())
	e.did = err == nil && !f.dryRun && f.find == ""
	if !e.Global.JSON {
		return err
	}
	if p.document == nil {
		p.document = problemOf(cmd.Context(), err)
	}
	if jerr := json.NewEncoder(e.Stdout).Encode(p.document); err == nil && jerr != nil {
		return fmt.Errorf("print the report: %w", jerr)
	}
	return err
}

func (p *promotion) carryOut(ctx context.Context) error {
	f := &p.flags
	switch {
	case f.wait <= 0:
		return usagef("--wait %v: want more than 0", f.wait)
	case f.find != "":
		return p.find(ctx)
	case !f.dryRun && !f.yes && !isTerminal(p.Stdin):
		return WithHint(usagef("the standard input is no terminal, so nothing was asked"), "%s --yes", again(p.cmd))
	}
	p.request(p.cmd.Flags().Changed("expect-epoch"))
	if err := p.target(ctx); err != nil {
		return err
	}
	defer p.client.Close()
	if f.dryRun {
		return p.dryRun(ctx)
	}
	if !f.yes {
		if err := p.confirm(ctx); err != nil {
			return err
		}
	}
	return p.run(ctx)
}

// notAsked is the type of a problem that this command met before any node took
// the request.
const notAsked admin.ProblemType = "not-asked"

// problemOf is an error as a Problem: the node's own where a node answered.
func problemOf(ctx context.Context, err error) *admin.Problem {
	var prob *admin.Problem
	if errors.As(err, &prob) {
		return prob
	}
	p := &admin.Problem{Detail: err.Error()}
	var lost *admin.LostAnswerError
	if errors.As(err, &lost) {
		p.Operation = lost.Operation
	}
	switch code := exitCode(ctx, err); {
	case lost != nil, code == admin.ExitUnknown, code == exitNotInTime:
		p.Type, p.Certainty, p.Title = admin.OutcomeUnknown, admin.Uncertain, "the outcome is not known"
	case code == admin.ExitUsage:
		p.Type, p.Certainty, p.Title = admin.BadRequest, admin.CertainlyNotDone, "wrong usage"
	case code == admin.ExitRefused:
		p.Type, p.Certainty, p.Title = admin.ChecksFailed, admin.CertainlyRefused, "refused by checks"
	default:
		p.Type, p.Certainty, p.Title = notAsked, admin.CertainlyNotDone, "no node took the request"
	}
	return p
}

// A promotion is one run of the command.
type promotion struct {
	*Env
	cmd    *cobra.Command
	flags  promoteFlags
	req    admin.PromoteRequest
	client *admin.Client // of the one node to be promoted
	status admin.Status
	node   admin.NodeStatus

	document any // what --json prints; nil makes it of the error
}

// request makes what will be asked for.
func (p *promotion) request(epochGiven bool) {
	f := p.flags
	wait := admin.Duration(f.wait)
	p.req = admin.PromoteRequest{Reason: f.reason, Actor: f.actor, Wait: &wait, DryRun: f.dryRun}
	p.req.Expect.MinSeq = journal.Seq(f.minSeq)
	if p.Global.Group != defaultGroup {
		p.req.Expect.Group = p.Global.Group
	}
	if epochGiven {
		epoch := journal.Epoch(f.epoch)
		p.req.Expect.Epoch = &epoch
	}
	for _, id := range f.accept {
		p.req.Accept = append(p.req.Accept, admin.CheckID(id))
	}
	if p.req.Actor == "" {
		p.req.Actor = p.actor()
	}
}

// actor is who runs the command, as far as can be told: user@host, by the user's
// number if it has no name.
func (e *Env) actor() string {
	name := e.Getenv("USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		} else {
			name = "uid " + strconv.Itoa(os.Getuid())
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// target finds the node to be promoted and a client for it alone.
func (p *promotion) target(ctx context.Context) error {
	for _, id := range p.req.Accept {
		if !slices.Contains(admin.AcceptableIDs(), id) {
			return usagef("--accept %s: this cannot be accepted; these can: %s", id, joined(admin.AcceptableIDs(), ""))
		}
	}
	var err error
	if p.status, err = p.Env.status(ctx); err != nil {
		return err
	}
	i, err := p.pick()
	if err != nil {
		return err
	}
	p.node = p.status.Nodes[i]
	p.req.Expect.Node = p.node.Node
	if p.req.Expect.Epoch == nil && !p.flags.dryRun && p.open() {
		p.req.Expect.Epoch = &p.status.Epoch // another promotion since then is not undone by this one
	}
	if p.client, err = p.adminClient(); err != nil {
		return err
	}
	p.client.BaseURLs = []string{p.node.Admin}
	if i == 0 && len(p.Global.Admin) == 1 {
		p.client.BaseURLs = p.Global.Admin // the one that answered, however it is reached
	}
	return nil
}

// open reports whether the epoch that the status shows is known to be the open one:
// a node that is still replaying has not read of later ones.
func (p *promotion) open() bool {
	return slices.ContainsFunc(p.status.Nodes, func(n admin.NodeStatus) bool {
		return n.Reachable && n.Epoch == p.status.Epoch && (n.State == admin.Serving || n.State == admin.Following)
	})
}

// pick returns the row of the node to be promoted. It guesses nothing: with
// several URLs the node must be named.
func (p *promotion) pick() (int, error) {
	if rows := p.status.Nodes; len(p.Global.Admin) == 1 && len(rows) > 0 && (p.flags.node == "" || p.flags.node == rows[0].Node) {
		return 0, nil // the one that answered
	}
	if same := sameNames(p.status.Nodes)[p.flags.node]; same != nil {
		return 0, usagef("%d processes have the name %s: name one of them by its URL alone: --admin %s", len(same), p.flags.node, strings.Join(same, " or --admin "))
	}
	var names []string
	for i, n := range p.status.Nodes {
		if n.Reachable && n.Node == p.flags.node && n.Node != "" {
			return i, nil
		}
		if n.Reachable {
			names = append(names, n.Node)
		}
	}
	if p.flags.node == "" {
		return 0, usagef("several nodes answer: name one with --node: %s", strings.Join(names, ", "))
	}
	return 0, WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("no node of the name %s answered; these did: %s", p.flags.node, strings.Join(names, ", "))), "%s", p.line("status"))
}

// head says what is about to happen.
func (p *promotion) head(w io.Writer) {
	fmt.Fprintf(w, "%s: make %s primary", p.status.Group, p.node.Node)
	for _, n := range p.status.Nodes {
		if n.State == admin.Serving && n.Node != p.node.Node {
			fmt.Fprintf(w, " in place of %s", n.Node)
		}
	}
	fmt.Fprintf(w, " (epoch %d -> %d)\n\n", p.status.Epoch, p.status.Epoch+1)
}

func printChecks(w io.Writer, checks []admin.Check) {
	for _, c := range checks {
		verdict := c.Verdict
		if verdict == admin.VerdictInfo {
			verdict = admin.VerdictWarn // it refuses nothing, and is there to be read
		}
		fmt.Fprintf(w, "  %-7s %-11s %s\n", verdict, c.ID, c.Detail)
	}
	fmt.Fprintln(w)
}

// dryRun runs the checks and says what would happen.
func (p *promotion) dryRun(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.flags.wait+p.Global.Timeout)
	defer cancel()
	r, err := p.client.Promote(ctx, p.req)
	switch {
	case err != nil:
		return p.failed(err)
	case p.Global.JSON:
		p.document = r
	default:
		p.head(p.Stdout)
		printChecks(p.Stdout, r.Checks)
		if r.Would == admin.WouldPromote {
			fmt.Fprintln(p.Stdout, "nothing changed. a promotion would go on")
		}
	}
	if r.Would != admin.WouldPromote {
		return p.refused(r.Detail, r.RefusedBy, r.Checks)
	}
	return nil
}

// confirm shows the checks and asks for the group's name.
func (p *promotion) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.Global.Timeout)
	defer cancel()
	c, err := p.client.Checks(ctx, p.node.Node)
	if err != nil {
		return err
	}
	p.head(p.Stderr)
	printChecks(p.Stderr, c.Checks)
	if p.req.Expect.Epoch == nil {
		p.req.Expect.Epoch = &p.status.Epoch // what is shown is what is answered to
	}
	if ids := admin.Refused(c.Checks, p.req.Accept); len(ids) > 0 {
		err := p.refused("", ids, c.Checks)
		prob := problemOf(ctx, err)
		prob.RefusedBy, prob.Checks = ids, c.Checks
		p.document = prob
		return err
	}
	fmt.Fprint(p.Stderr, "Type the group name to go on: ")
	line, err := readLine(p.Stdin)
	switch {
	case errors.Is(err, io.EOF):
		return WithHint(usagef("the standard input ended: nothing changed"), "%s --yes", again(p.cmd))
	case err != nil:
		return fmt.Errorf("read the group name: %w", err)
	case strings.TrimSpace(line) != p.status.Group:
		return WithCode(admin.ExitNotDone, fmt.Errorf("%q is not the group %s: nothing changed", strings.TrimSpace(line), p.status.Group))
	}
	return nil
}

// refused is the error of a refusal by checks.
func (p *promotion) refused(detail string, ids []admin.CheckID, checks []admin.Check) error {
	err := WithCode(admin.ExitRefused, fmt.Errorf("nothing changed. refused: %s", joined(ids, detail)))
	if len(ids) == 0 || p.flags.find != "" {
		return err
	}
	for _, c := range checks {
		switch {
		case !slices.Contains(ids, c.ID) || c.Acceptable:
		case c.ID == admin.CheckRole && p.node.State == admin.Serving:
			return WithHint(err, "%s is the primary already", p.node.Node)
		default:
			return WithHint(err, "%s: %s", c.ID, c.Detail)
		}
	}
	if len(checks) == 0 {
		return WithHint(err, "%s --dry-run says why", again(p.cmd, "yes"))
	}
	accept := slices.Concat(p.req.Accept, ids)
	return WithHint(err, "%s --accept %s", again(p.cmd, "dry-run", "json", "accept"), strings.ReplaceAll(joined(accept, ""), ", ", ","))
}

// run asks for the promotion and reports what became of it.
func (p *promotion) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.flags.wait+p.Global.Timeout)
	defer cancel()
	r, err := p.client.Promote(ctx, p.req)
	if err != nil {
		return p.failed(err)
	}
	p.printReport(r)
	return nil
}

// printReport tells the phases of a promotion that was done.
func (p *promotion) printReport(r admin.Report) {
	if p.document = r; p.Global.JSON {
		return
	}
	w, ms := p.Stdout, r.PhasesMS
	phase := func(name, what string, took float64) {
		fmt.Fprintf(w, "  %-8s %-52s %s\n", name, what, shortMillis(took))
	}
	phase("checks", checksWords(r.Checks), ms.Checks)
	phase("fence", fmt.Sprintf("epoch %d written at position %s", r.Epoch, grouped(r.FencePosition)), ms.Fence)
	phase("drain", counted(r.Drained, "record")+" applied since the request", ms.Drain)
	phase("verify", "outcome digest "+shortHash(r.StateHash), ms.Verify)
	phase("open", fmt.Sprintf("%s serves epoch %d from seq %s", r.Node, r.Epoch, grouped(r.EpochSeq)), ms.Open)
	fmt.Fprintf(w, "promoted: %s, epoch %d, %s   operation %s\n", r.Node, r.Epoch, shortMillis(r.TookMS), r.Operation)
	if r.FromEpoch > 0 {
		fmt.Fprintf(w, "the primary of epoch %d is fenced: its last record is %s; what it had not journaled was never acknowledged\n", r.FromEpoch, grouped(r.EpochSeq-1))
	}
}

// checksWords counts the checks that a promotion passed and names those whose
// warning was accepted.
func checksWords(checks []admin.Check) string {
	var accepted []admin.CheckID
	for _, c := range checks {
		if c.Verdict == admin.VerdictWarn {
			accepted = append(accepted, c.ID)
		}
	}
	s := counted(len(checks)-len(accepted), "check") + " passed"
	if len(accepted) > 0 {
		s += ", accepted: " + joined(accepted, "")
	}
	return s
}

// shortHash shortens a hash in hexadecimal for people.
func shortHash(hex string) string {
	if len(hex) <= 12 {
		return hex
	}
	return hex[:6] + "…" + hex[len(hex)-4:]
}

// failed adds to an error what can be done next.
func (p *promotion) failed(err error) error {
	var prob *admin.Problem
	var lost *admin.LostAnswerError
	switch {
	case errors.As(err, &lost):
		return WithHint(err, "%s", p.lineTo(lost.URL, "promote --find "+lost.Operation))
	case !errors.As(err, &prob):
		return err
	}
	p.document = prob
	switch prob.Type {
	case admin.ChecksFailed:
		if !p.Global.JSON {
			printChecks(p.Stdout, prob.Checks)
		}
		return p.refused(prob.Detail, prob.RefusedBy, prob.Checks)
	case admin.FencedNotServing:
		if len(prob.Next) > 0 {
			return WithHint(err, "%s", p.line("promote --node "+shellWord(prob.Next[0])))
		}
	case admin.OutcomeUnknown:
		if p.node.Admin != "" {
			return WithHint(err, "%s", p.lineTo(p.node.Admin, "promote --find "+shellWord(prob.Operation)))
		}
	case admin.LostRace, admin.AlreadyPrimary, admin.EpochMoved:
		return WithHint(err, "%s", p.line("who"))
	}
	return err
}

// find says what became of an earlier promotion.
func (p *promotion) find(ctx context.Context) error {
	c, err := p.adminClient()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, p.flags.wait+p.Global.Timeout)
	defer cancel()
	id := p.flags.find
	op, err := c.Operation(ctx, id, p.flags.wait)
	switch {
	case errors.Is(err, admin.NotFound):
		err := WithCode(admin.ExitUnknown, fmt.Errorf("no node that answered knows operation %s: a node that restarted has forgotten it", id))
		prob := problemOf(ctx, err)
		prob.Operation, p.document = id, prob
		return WithHint(err, "%s", p.line("who"))
	case err != nil:
		return err
	case op.Report != nil:
		p.printReport(*op.Report)
		return nil
	case op.Problem != nil:
		return p.failed(op.Problem)
	}
	return WithCode(exitNotInTime, fmt.Errorf("operation %s is still %s", id, op.State))
}
