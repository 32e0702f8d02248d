package cli

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/client"
	"understudy.dev/journal"
	"understudy.dev/machine"
)

// submitFlags are the flags of submit.
type submitFlags struct {
	clients []string
	ordered bool
	hex     bool
	raw     bool
	wait    time.Duration
}

func (e *Env) submitCommand() *cobra.Command {
	var f submitFlags
	c := &cobra.Command{
		Use: "submit [NAME [VERSION] [DATA|@FILE|-]]", GroupID: groupRun,
		Short: "Submit commands and print the truth about each",
		Long:  e.submitHelp(),
		Example: "  " + e.App.Name + " submit " + e.exampleCommand() + "\n" +
			"  " + e.App.Name + " submit --ordered < commands.txt",
		RunE: func(cmd *cobra.Command, args []string) error { return e.submit(cmd, args, f) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringSliceVar(&f.clients, "client", nil, "client `HOST:PORT`s of the nodes (default: ask --admin)")
	fl.BoolVar(&f.ordered, "ordered", false, "carry the lines out in their order, also through a failover")
	fl.BoolVar(&f.hex, "hex", false, "DATA is hexadecimal")
	fl.BoolVar(&f.raw, "raw", false, "DATA is the command's bytes as they are, not words to be encoded")
	fl.DurationVar(&f.wait, "wait", 30*time.Second, "how long to try, also through a failover, before an answer is given up")
	c.MarkFlagsMutuallyExclusive("hex", "raw")
	return c
}

func (e *Env) submitHelp() string {
	var names []string
	for _, c := range e.App.Machine.Commands {
		names = append(names, c.Name)
	}
	s := "Submits one command, or one a line from the standard input, and prints what became of each:\n" +
		"done or rejected (it is in the journal, and was carried out once), refused, not done, unknown.\n\n" +
		"DATA is text, @FILE, - for the standard input, or with --hex hexadecimal. VERSION is the newest that the machine\n" +
		"knows unless given. A line is NAME [VERSION] [DATA]; write the version when the data begins with a number and a space.\n" +
		"Empty lines and lines that start with # are passed over. A line that is no command stops the rest: it and all after it\n" +
		"are not submitted, and the hint goes on from there.\n\n"
	if e.App.Encode != nil {
		s += "Without --raw and --hex the words after NAME are encoded by the machine, as in the example.\n\n"
	}
	return s + "Exit codes: 0 all done; 1 one was rejected, refused or not done; 2 a line is no command; 3 of one the outcome is unknown.\n" +
		"Commands of this machine: " + strings.Join(names, ", ")
}

// exampleCommand is a command that the machine knows.
func (e *Env) exampleCommand() string {
	if e.App.Example != "" {
		return e.App.Example
	}
	if len(e.App.Machine.Commands) == 0 {
		return "NAME DATA"
	}
	return e.App.Machine.Commands[0].Name + " 1"
}

// A submission is one command on its way.
type submission struct {
	line    int // of the standard input, from 1; 0 of the arguments
	name    string
	version uint32
	data    []byte
	answer  chan client.Answer
}

func (e *Env) submit(cmd *cobra.Command, args []string, f submitFlags) error {
	ctx := cmd.Context()
	if f.wait <= 0 {
		return usagef("--wait %v: want more than 0", f.wait)
	}
	var one *submission
	if len(args) > 0 {
		s, err := e.parseArgs(args, f)
		if err != nil {
			return err
		}
		one = &s
	}
	c, err := e.dial(ctx, f)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if one == nil && isTerminal(e.Stdin) {
		e.progressf("reading commands from the standard input, one a line; Ctrl-D ends\n")
	}
	w := &answerWriter{Env: e, out: bufio.NewWriter(e.Stdout)}
	if one == nil {
		return e.submitLines(cmd, c, w, f)
	}
	one.answer = make(chan client.Answer, 1)
	if err := c.Go(one.name, one.version, one.data, func(a client.Answer) { one.answer <- a }); err != nil {
		return notSent(ctx, err)
	}
	e.did = true
	if err := w.write(*one, <-one.answer); err != nil {
		return err
	}
	return w.verdict(ctx)
}

// notSent is the error of a command that the client did not take.
func notSent(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// errInterrupted says that a person ended what was going on.
var errInterrupted = WithCode(exitInterrupted, errors.New("interrupted"))

// dial connects to the primary, wherever it is.
func (e *Env) dial(ctx context.Context, f submitFlags) (*client.Client, error) {
	addrs := f.clients
	if len(addrs) == 0 {
		s, err := e.status(ctx)
		if err != nil {
			return nil, WithHint(err, "name the nodes with --client HOST:PORT, or their admin URLs with --admin")
		}
		for _, n := range s.Nodes {
			if n.Client != "" {
				addrs = append(addrs, n.Client)
			}
		}
	}
	c, err := client.Dial(ctx, client.Config{Addrs: addrs, Machine: e.App.Machine.Name, Ordered: f.ordered, Timeout: f.wait})
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, client.ErrMachine):
		return nil, WithHint(WithCode(admin.ExitUsage, err), "this is the binary of machine %s: use the one of the machine that the nodes run", e.App.Machine.Name)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("%w%s", err, e.noneServes(ctx, f))), "%s", e.line("status"))
	}
	return nil, err
}

// noneServes tells what the nodes are if none of them serves: to a client all look
// like standbys, also those that have halted.
func (e *Env) noneServes(ctx context.Context, f submitFlags) string {
	if len(f.clients) > 0 {
		return "" // the nodes of --admin may be others
	}
	s, err := e.status(ctx)
	if err != nil {
		return ""
	}
	var words []string
	for i := range s.Nodes {
		switch n := &s.Nodes[i]; {
		case n.Reachable && n.State == admin.Serving:
			return ""
		case n.Reachable:
			words = append(words, nameOf(n)+" is "+string(n.State))
		}
	}
	return "\nno node serves: " + strings.Join(words, ", ")
}

// parseArgs makes a command of the arguments.
func (e *Env) parseArgs(args []string, f submitFlags) (submission, error) {
	if e.encodes(f) {
		return e.encode(args)
	}
	if len(args) > 3 {
		return submission{}, usagef("%d words, want NAME [VERSION] [DATA|@FILE|-]; data of several words is one argument: %s",
			len(args), oneArgument(args))
	}
	s := submission{name: args[0], version: newest(e.App.Machine, args[0])}
	if len(args) == 3 {
		v, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return submission{}, usagef("of three words the second is the VERSION, and %q is no number; data of two words is one argument: %s",
				args[1], oneArgument(args))
		}
		s.version = uint32(v)
	}
	var err error
	if len(args) > 1 {
		s.data, err = e.data(args[len(args)-1], f)
	}
	return s, err
}

// oneArgument quotes the words after the name as the one argument that data is.
func oneArgument(args []string) string {
	return args[0] + " " + shellWord(strings.Join(args[1:], " "))
}

func (e *Env) encodes(f submitFlags) bool { return e.App.Encode != nil && !f.hex && !f.raw }

// encode makes a command of words that the machine understands.
func (e *Env) encode(words []string) (submission, error) {
	version, data, err := e.App.Encode(words[0], words[1:])
	var number *strconv.NumError
	switch {
	case errors.As(err, &number) && errors.Is(err, strconv.ErrRange):
		return submission{}, usagef("%s: %s is out of range", words[0], number.Num)
	case errors.As(err, &number):
		return submission{}, usagef("%s: %q is no number", words[0], number.Num)
	case err != nil:
		return submission{}, usagef("%s: %v", words[0], err)
	}
	return submission{name: words[0], version: version, data: data}, nil
}

// newest is the newest version of a command that the machine knows; the node
// refuses a name that it does not know.
func newest(def machine.Definition, name string) uint32 {
	for _, c := range def.Commands {
		if c.Name == name {
			return c.Max
		}
	}
	return 0
}

// data reads what the last argument means.
func (e *Env) data(arg string, f submitFlags) ([]byte, error) {
	data := []byte(arg)
	var err error
	switch file, isFile := strings.CutPrefix(arg, "@"); {
	case arg == "-":
		data, err = io.ReadAll(e.Stdin)
	case isFile:
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, WithCode(admin.ExitUsage, fmt.Errorf("read the data: %w", err))
	}
	return f.decode(data)
}

// decode turns hexadecimal into bytes if that was asked for.
func (f *submitFlags) decode(data []byte) ([]byte, error) {
	if !f.hex {
		return data, nil
	}
	out, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, usagef("--hex: %v", err)
	}
	return out, nil
}

// parseLine makes a command of a line: NAME [VERSION] [DATA].
func (e *Env) parseLine(line string, f submitFlags) (submission, error) {
	if e.encodes(f) {
		return e.encode(strings.Fields(line))
	}
	name, rest, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	s := submission{name: name, version: newest(e.App.Machine, name)}
	if first, data, ok := strings.Cut(rest, " "); ok {
		if v, err := strconv.ParseUint(first, 10, 32); err == nil {
			s.version, rest = uint32(v), data
		}
	}
	var err error
	s.data, err = f.decode([]byte(rest))
	return s, err
}

// submitLines submits the lines of the standard input, as many at a time as the
// session's window takes, and prints the answers in the order of the lines. If it
// stops before the end it says at which line, and how to go on from there.
func (e *Env) submitLines(cmd *cobra.Command, c *client.Client, w *answerWriter, f submitFlags) error {
	ctx := cmd.Context()
	flying := make(chan submission, machine.DefaultWindow)
	read := make(chan *stoppedError, 1)
	go func() {
		read <- e.submitEach(ctx, c, flying, f)
		close(flying)
	}()
	var failed error
	for s := range flying {
		if failed != nil {
			continue // nobody reads what is printed; let the rest end
		}
		var a client.Answer
		select {
		case a = <-s.answer:
		default:
			if failed = w.out.Flush(); failed != nil {
				continue
			}
			a = <-s.answer
		}
		failed = w.write(s, a)
	}
	stopped := <-read
	if failed != nil {
		e.did = true // there was an answer to print
		return fmt.Errorf("print the answers: %w", failed)
	}
	if stopped == nil {
		return w.verdict(ctx)
	}
	if err := w.writeStopped(stopped); err != nil {
		return fmt.Errorf("print the answers: %w", err)
	}
	if err := w.verdict(ctx); w.counts[client.Unknown] > 0 {
		return WithHint(WithCode(admin.ExitUnknown, fmt.Errorf("%w; %w", err, stopped)), "%s", e.line("status"))
	}
	return WithHint(stopped, "go on from line %d when it is mended: tail -n +%d FILE | %s", stopped.line, stopped.line, again(cmd))
}

// A stoppedError says at which line of the input a submission ended: what stands
// before it was submitted, it and all after it was not.
type stoppedError struct {
	line int // from 1
	name string
	err  error
}

func (e *stoppedError) Error() string {
	before := "nothing was"
	switch {
	case e.line == 2:
		before = "line 1 was"
	case e.line > 2:
		before = fmt.Sprintf("lines 1 to %d were", e.line-1)
	}
	return fmt.Sprintf("line %d: %v: stopped: it and all lines after it were not submitted, %s", e.line, e.err, before)
}

func (e *stoppedError) Unwrap() error { return e.err }

// maxLine bounds a line in bytes: the largest command, in hexadecimal.
const maxLine = 2*client.DefaultMaxCommand + journal.MaxName + 16

// A textLine is a line of the standard input, or why there are no more.
type textLine struct {
	number int
	text   string
	err    error
}

// scan reads the standard input line by line until it ends or ctx does. While it
// waits for input only the end of the process stops it, so nobody waits for it.
func (e *Env) scan(ctx context.Context) <-chan textLine {
	out := make(chan textLine, 64)
	go func() {
		defer close(out)
		send := func(l textLine) bool {
			select {
			case out <- l:
				return true
			case <-ctx.Done():
				return false
			}
		}
		lines := bufio.NewScanner(e.Stdin)
		lines.Buffer(nil, maxLine)
		n := 1
		for ; lines.Scan(); n++ {
			if t := strings.TrimSpace(lines.Text()); t == "" || t[0] == '#' {
				continue
			}
			if !send(textLine{number: n, text: lines.Text()}) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			send(textLine{number: n, err: fmt.Errorf("read the standard input: %w", err)})
		}
	}()
	return out
}

// submitEach submits each line and hands it on to the one who waits for answers.
// It returns nil at the end of the input.
func (e *Env) submitEach(ctx context.Context, c *client.Client, flying chan<- submission, f submitFlags) *stoppedError {
	lines := e.scan(ctx)
	for last := 0; ; {
		var l textLine
		var ok bool
		select {
		case l, ok = <-lines:
		case <-ctx.Done():
			return &stoppedError{line: last + 1, err: errInterrupted}
		}
		switch {
		case !ok:
			return nil
		case l.err != nil:
			return &stoppedError{line: l.number, err: l.err}
		}
		s, err := e.parseLine(l.text, f)
		if err != nil {
			return &stoppedError{l.number, nameOfLine(l.text), err}
		}
		s.line, s.answer = l.number, make(chan client.Answer, 1)
		err = c.Go(s.name, s.version, s.data, func(a client.Answer) {
			a.Reply = append([]byte(nil), a.Reply...) // it waits for the lines before it
			s.answer <- a
		})
		if err != nil {
			return &stoppedError{l.number, s.name, notSent(ctx, err)}
		}
		last = l.number
		flying <- s
	}
}

func nameOfLine(text string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	return name
}

// An answerWriter prints answers and remembers the worst.
type answerWriter struct {
	*Env
	out     *bufio.Writer
	counts  [5]int // by verdict
	written int
}

// submitAnswer is an answer in JSON.
type submitAnswer struct {
	Line     int          `json:"line"`
	Name     string       `json:"name"`
	Verdict  string       `json:"verdict"`
	Seq      *journal.Seq `json:"seq"`
	Repeated bool         `json:"repeated"`
	Reply    *string      `json:"reply"`
	Bytes    []byte       `json:"reply_bytes"`
	Error    string       `json:"error,omitempty"`
}

// verdictWords are the verdicts of JSON.
var verdictWords = [...]string{client.Done: "done", client.Rejected: "rejected", client.Refused: "refused", client.NotDone: "not_done", client.Unknown: "unknown"}

func (w *answerWriter) write(s submission, a client.Answer) error {
	w.counts[a.Verdict]++
	w.written++
	if w.Global.JSON {
		return w.writeJSON(s, a)
	}
	var err error
	if a.Err != nil {
		_, err = fmt.Fprintf(w.out, "%-8s  %s\n", a.Verdict, whyNot(a.Err))
		return err
	}
	text := w.text(s.name, a)
	if text == nil {
		text = new("0x" + hex.EncodeToString(a.Reply))
	}
	repeated := ""
	if a.Repeated {
		repeated = " (by an earlier attempt)"
	}
	_, err = fmt.Fprintf(w.out, "%-8s  seq %d%s  %s\n", a.Verdict, a.Seq, repeated, *text)
	return err
}

func (w *answerWriter) writeJSON(s submission, a client.Answer) error {
	out := submitAnswer{Line: s.line, Name: s.name, Verdict: verdictWords[a.Verdict], Repeated: a.Repeated}
	if a.Err != nil {
		out.Error = whyNot(a.Err)
	} else {
		out.Seq, out.Bytes, out.Reply = &a.Seq, a.Reply, w.text(s.name, a)
	}
	return json.NewEncoder(w.out).Encode(out)
}

// whyNot is an answer's error without the verdict, which stands before it.
func whyNot(err error) string {
	s := err.Error()
	for _, verdict := range []error{client.ErrRefused, client.ErrNotDone, client.ErrUnknown} {
		s = strings.TrimPrefix(s, verdict.Error()+": ")
	}
	return s
}

// writeStopped prints with --json a line for the one at which the input stopped:
// it was certainly not done.
func (w *answerWriter) writeStopped(at *stoppedError) error {
	if !w.Global.JSON {
		return nil
	}
	return json.NewEncoder(w.out).Encode(submitAnswer{Line: at.line, Name: at.name, Verdict: verdictWords[client.NotDone], Error: at.Error()})
}

// text is a reply in words; nil if it has none.
func (w *answerWriter) text(name string, a client.Answer) *string {
	switch {
	case a.Verdict == client.Done && w.App.Decode != nil:
		return new(w.App.Decode(name, a.Reply))
	case utf8.Valid(a.Reply):
		return new(string(a.Reply))
	}
	return nil
}

// verdict flushes and returns the error that stands for the worst answer.
func (w *answerWriter) verdict(ctx context.Context) error {
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("print the answers: %w", err)
	}
	n := func(v client.Verdict) int { return w.counts[v] }
	if w.written > 1 {
		w.progressf("%s: %d done, %d rejected, %d refused, %d not done, %d unknown\n", counted(w.written, "command"),
			n(client.Done), n(client.Rejected), n(client.Refused), n(client.NotDone), n(client.Unknown))
	}
	switch {
	case n(client.Unknown) > 0:
		return WithHint(WithCode(admin.ExitUnknown, errors.New("the outcome of "+counted(n(client.Unknown), "command")+" is unknown: it may be done, or may yet be")), "%s", w.line("status"))
	case ctx.Err() != nil:
		return errInterrupted
	case n(client.Done) < w.written:
		return quietly(admin.ExitNotDone)
	}
	return nil
}
