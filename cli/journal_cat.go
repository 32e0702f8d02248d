package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/journal"
)

// catFlags are the flags of journal cat.
type catFlags struct {
	spanFlags
	kinds, names []string
	format       string
}

// journalRecord is a record as JSON. Exactly one of Data and DataBase64 is set
// where there is data: the first where it is valid UTF-8.
type journalRecord struct {
	Seq     uint64  `json:"seq"`
	Epoch   uint64  `json:"epoch"`
	Time    string  `json:"time"`
	Kind    string  `json:"kind"`
	Name    string  `json:"name"`
	Version uint32  `json:"version"`
	Client  uint64  `json:"client,omitempty"`
	Request uint64  `json:"request,omitempty"`
	Bytes   int     `json:"bytes"`
	Words   string  `json:"words,omitempty"` // the data in words, where there are any
	Data    *string `json:"data,omitempty"`
	Base64  []byte  `json:"data_base64,omitempty"`
}

func (e *Env) journalCatCommand() *cobra.Command {
	var f catFlags
	c := &cobra.Command{
		Use: "cat", Short: "Print records",
		Long: "Prints records. --format takes %s seq, %e epoch, %T time, %k kind, %t name, quoted if it could not be printed as it is,\n" +
			"%v version, %c client, %r request, %n bytes of data, %d data in words or as quoted text, %x data in hexadecimal,\n" +
			"%D the data's bytes as they are, %% and \\n \\t \\\\. Filters are for viewing: what they leave out is read and verified\n" +
			"all the same. What lies before --from is neither read nor verified, but for a little before it: reading begins where\n" +
			"an index leads. --follow ends by a signal, with 130.",
		Example: "  " + e.App.Name + " journal cat --journal file:understudy-data --from -5 --format '%s %T %t %e %n bytes\\n'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(f.format); err != nil {
				return err
			}
			return e.withJournal(cmd.Context(), readOnly, func(j journal.Journal, end journal.End) error {
				return e.journalCat(cmd.Context(), j, end, f)
			})
		},
	}
	e.addSpanFlags(c, &f.spanFlags)
	c.Flags().StringSliceVar(&f.kinds, "kind", nil, "only records of these kinds")
	c.Flags().StringSliceVar(&f.names, "name", nil, "only records of these names")
	c.Flags().StringVar(&f.format, "format", `%s %T %k %t v%v %n bytes %d\n`, "how a record is printed")
	return c
}

func (e *Env) journalGetCommand() *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use: "get SEQ", Short: "Print one record", Args: cobra.ExactArgs(1),
		Example: "  " + e.App.Name + " journal get 1 --journal file:understudy-data --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || n == 0 {
				return usagef("%q is no record: want its seq, from 1", args[0])
			}
			if raw && cmd.Flags().Changed("json") {
				return usagef("--raw and --json are two ways to print a record: choose one")
			}
			e.Global.JSON = e.Global.JSON && !raw // what the environment asks for gives way
			return e.withJournal(cmd.Context(), readOnly, func(j journal.Journal, end journal.End) error {
				f := catFlags{spanFlags: spanFlags{from: args[0], to: args[0]}, format: `%s %T %k %t v%v epoch %e client %c request %r %n bytes\n%d\n`}
				if raw {
					f.format = "%D"
				}
				if journal.Seq(n) > end.Seq {
					return WithCode(admin.ExitNotDone, fmt.Errorf("there is no record %d: the last one is %d", n, end.Seq))
				}
				oldest, err := oldestSeq(cmd.Context(), j, end)
				switch {
				case err != nil:
					return err
				case journal.Seq(n) < oldest:
					return pruned(journal.Seq(n), oldest)
				}
				return e.journalCat(cmd.Context(), j, end, f)
			})
		},
	}
	c.Flags().BoolVar(&raw, "raw", false, "print the data's bytes and nothing else")
	return c
}

func (e *Env) journalCat(ctx context.Context, j journal.Journal, end journal.End, f catFlags) error {
	sp, err := e.stretchIn(j, f.spanFlags, end)
	if err != nil {
		return err
	}
	kinds, err := parseKinds(f.kinds)
	if err != nil {
		return err
	}
	if err := e.warnPruned(ctx, j, sp, end); err != nil {
		return err
	}
	out := bufio.NewWriter(e.Stdout)
	var records []journal.Record
	n := uint64(0)
	err = e.items(ctx, j, sp, end, func(it *journal.Item) (bool, error) {
		if it.Verdict != journal.Live || it.Batch.Count == 0 || sp.from.before(it.Batch.Last(), it.Batch.End) {
			return true, nil
		}
		var err error
		if records, err = it.Batch.Records(records[:0]); err != nil {
			return false, &journal.CorruptError{Source: journal.Describe(j).Location, Pos: it.Pos, Seq: it.Batch.First - 1, Offset: -1, Err: err}
		}
		for i := range records {
			r := &records[i]
			switch {
			case sp.from.before(r.Seq, r.Time), len(kinds) > 0 && !slices.Contains(kinds, r.Kind), len(f.names) > 0 && !slices.Contains(f.names, r.Name):
				continue
			case sp.to.after(r.Seq, r.Time):
				return false, nil
			}
			if err := e.printRecord(out, r, f.format); err != nil {
				return false, err
			}
			if n++; n == sp.count {
				return false, nil
			}
		}
		if sp.follow {
			return true, out.Flush()
		}
		return !sp.reached(it.Batch.Last()), nil
	})
	return flushed(out, err)
}

// flushed returns err, or what flushing met.
func flushed(w *bufio.Writer, err error) error {
	if ferr := w.Flush(); err == nil && ferr != nil && !isClosedPipe(ferr) {
		return fmt.Errorf("write: %w", ferr)
	}
	return err
}

// isClosedPipe reports whether whoever read the output has gone, as head does.
func isClosedPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

func (e *Env) printRecord(w io.Writer, r *journal.Record, format string) error {
	if e.Global.JSON {
		return json.NewEncoder(w).Encode(e.recordJSON(r))
	}
	_, err := w.Write(e.appendFormat(nil, format, r))
	return err
}

func (e *Env) recordJSON(r *journal.Record) journalRecord {
	out := journalRecord{
		Seq: uint64(r.Seq), Epoch: uint64(r.Epoch), Time: r.Time.String(), Kind: r.Kind.String(), Name: r.Name, Version: r.Version,
		Client: r.Client, Request: r.Request, Bytes: len(r.Data),
		Words: e.recordWords(r),
	}
	switch {
	case len(r.Data) == 0:
	case utf8.Valid(r.Data):
		s := string(r.Data)
		out.Data = &s
	default:
		out.Base64 = r.Data
	}
	return out
}

// plainOrQuoted is a name as it is, or quoted if that would break a line, draw on a
// terminal or be taken for a quoted one.
func plainOrQuoted(s string) string {
	q := strconv.Quote(s)
	if q[1:len(q)-1] == s {
		return s
	}
	return q
}

// checkFormat refuses what appendFormat would not carry out.
func checkFormat(format string) error {
	for i := 0; i < len(format); i++ {
		c, known := format[i], ""
		switch c {
		case '%':
			known = formatVerbs
		case '\\':
			known = formatEscapes
		default:
			continue
		}
		i++
		switch {
		case i == len(format):
			return usagef("--format ends with %c: write %c%c for the sign itself", c, c, c)
		case strings.IndexByte(known, format[i]) < 0:
			return usagef("--format has %c%c: want one of %s after %c", c, format[i], strings.Join(strings.Split(known, ""), " "), c)
		}
	}
	return nil
}

// What may follow % and \ in a format.
const (
	formatVerbs   = "seTktvcrndDx%"
	formatEscapes = `nt\`
)

// appendFormat carries out a format of journal cat that checkFormat has passed.
func (e *Env) appendFormat(b []byte, format string, r *journal.Record) []byte {
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c != '%' && c != '\\' {
			b = append(b, c)
			continue
		}
		i++
		if c == '\\' {
			b = append(b, escaped(format[i]))
			continue
		}
		b = e.appendVerb(b, format[i], r)
	}
	return b
}

func escaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	}
	return c
}

func (e *Env) appendVerb(b []byte, verb byte, r *journal.Record) []byte {
	switch verb {
	case 's':
		return strconv.AppendUint(b, uint64(r.Seq), 10)
	case 'e':
		return strconv.AppendUint(b, uint64(r.Epoch), 10)
	case 'T':
		return append(b, r.Time.String()...)
	case 'k':
		return append(b, r.Kind.String()...)
	case 't':
		return append(b, plainOrQuoted(r.Name)...)
	case 'v':
		return strconv.AppendUint(b, uint64(r.Version), 10)
	case 'c':
		return strconv.AppendUint(b, r.Client, 10)
	case 'r':
		return strconv.AppendUint(b, r.Request, 10)
	case 'n':
		return strconv.AppendInt(b, int64(len(r.Data)), 10)
	case 'd':
		if s := e.recordWords(r); s != "" {
			return append(b, s...)
		}
		return strconv.AppendQuote(b, string(r.Data))
	case 'D':
		return append(b, r.Data...)
	case 'x':
		return fmt.Appendf(b, "%x", r.Data)
	}
	return append(b, verb) // %%
}
