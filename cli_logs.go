package stepwell

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// manyLogs is how many tasks of a step have their logs read, unless all are asked for, or what is looked for may be in any.
const manyLogs = 1000

// logsOptions are the flags of logs.
type logsOptions struct {
	attempt     int
	all, follow bool
	level, grep string
}

func (c *command) logsCmd() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use: "logs FLOW/RUN[/STEP]", Short: "Print what steps logged, in the order of time",
		Example: c.examples(
			"logs FLOW/latest                     all lines of the newest run",
			"logs FLOW/latest --follow            and those to come, until the run ends",
			"logs FLOW/latest/STEP --attempt 2    those of one attempt of a step",
			"logs 'FLOW/latest/STEP[3]'           those of one item, of a step in a foreach",
			"logs FLOW/latest --level warn        warnings and errors",
			"logs FLOW/latest --grep 'rows=0\\b'   lines that match a regular expression",
			"logs FLOW/latest --json              a JSON object per line"),
		Args: exactly("a run, a step or a task (Flow/run, Flow/latest, Flow/run/step, Flow/run/step[3])"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("attempt") && o.attempt < 1 {
				return inputf("--attempt %d is not an attempt (they count from 1)", o.attempt)
			}
			return c.logs(cmd.Context(), args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, fmt.Sprintf("of a step with many tasks the logs of all, not only of the first %d", manyLogs))
	f.IntVar(&o.attempt, "attempt", 0, "only this attempt (default all)")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with the lines to come, until the run or the task ends; they come some seconds late")
	f.StringVar(&o.level, "level", "", "only lines of this level and above: debug, info, warn or error")
	f.StringVar(&o.grep, "grep", "", "only lines whose message or attributes match a regular expression (RE2; (?i) ignores case)")
	return c.withJSON(cmd)
}

func (c *command) logs(ctx context.Context, spec string, o logsOptions) error {
	filter, err := o.filter()
	if err != nil {
		return err
	}
	p, err := runOrTaskSpec(spec)
	if err != nil {
		return err
	}
	reader, done, err := c.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	run, err := reader.Find(ctx, p.Flow+"/"+p.Run)
	if err != nil {
		return err
	}
	l := &logReader{run: run, task: p.Task, filter: filter, limit: manyLogs, out: c.linePrinter()}
	if o.all || o.level != "" || o.grep != "" {
		l.limit = 0
	}
	if err := l.find(ctx); err != nil {
		return err
	}
	if o.follow {
		err = l.follow(ctx)
	} else {
		err = l.now(ctx)
	}
	_ = l.out.w.Flush() // the stream remembers what went wrong
	if err != nil {
		return err
	}
	switch {
	case l.out.n > 0:
	case o.level != "" || o.grep != "":
		fmt.Fprintln(c.io.Err, "no lines match")
	default:
		fmt.Fprintln(c.io.Err, "no lines were logged")
	}
	for _, step := range l.more {
		fmt.Fprintf(c.io.Err, "of step %q only the first %s are here that logged something (add --all, or name one)\n", clean(step), many(manyLogs, "task"))
	}
	return nil
}

// logFilter says which lines are wanted. The zero value wants all.
type logFilter struct {
	attempt int
	leveled bool
	level   slog.Level
	grep    *regexp.Regexp
}

func (o logsOptions) filter() (f logFilter, err error) {
	f.attempt = o.attempt
	if f.leveled = o.level != ""; f.leveled {
		if f.level.UnmarshalText([]byte(o.level)) != nil {
			return f, inputf("--level %q is not a level (use debug, info, warn or error)", o.level)
		}
	}
	if o.grep != "" {
		if f.grep, err = regexp.Compile(o.grep); err != nil {
			return f, inputf("--grep %q is not a regular expression: %w", o.grep, err)
		}
	}
	return f, nil
}

// wants reports whether a line is wanted. One without a level, which was not logged but printed, counts as info.
func (f logFilter) wants(e logEntry) bool {
	if f.leveled {
		level := slog.LevelInfo
		if e.level != "" && level.UnmarshalText([]byte(e.level)) != nil {
			level = slog.LevelInfo
		}
		if level < f.level {
			return false
		}
	}
	return f.grep == nil || f.grep.MatchString(strings.Join(append([]string{e.message}, e.attrs...), " "))
}

// linePrinter prints lines as they come.
type linePrinter struct {
	c *command
	w *bufio.Writer
	n int
}

func (c *command) linePrinter() *linePrinter {
	return &linePrinter{c: c, w: bufio.NewWriterSize(c.io.Out, 1<<16)}
}

// broken reports whether nobody reads what is printed any more.
func (p *linePrinter) broken() bool { return p.c.term.failure() != nil }

func (p *linePrinter) line(l logLine) error {
	p.n++
	if !p.c.set.json {
		_, _ = p.w.WriteString(l.entry.line(p.c.term.out.style) + "\n")
		return nil
	}
	doc, err := marshalJSON(l.document(), "")
	_, _ = p.w.Write(doc)
	return err
}

// logReader reads the logs that a call asks for.
type logReader struct {
	run    *runs.Run
	task   string // "" for all of the run
	one    *runs.Task
	only   flow.Index // of a task that has logs, but nothing else yet
	groups [][]string // names of what has logs, see runs.Run.LogGroups
	filter logFilter
	limit  int // of tasks of a step, 0 for none
	out    *linePrinter
	more   []string // the steps of which there are more
}

// find looks for what was asked for, without counting its tasks.
func (l *logReader) find(ctx context.Context) (err error) {
	if l.task == "" {
		l.groups = l.run.LogGroups()
		return nil
	}
	step, x, err := flow.ParseTaskName(l.task)
	if err != nil || x != nil {
		if l.one, err = l.run.Task(ctx, l.task); errors.Is(err, runs.ErrNotFound) && x != nil {
			return l.begun(ctx, step, x, err)
		}
		return err
	}
	l.groups = [][]string{{step}}
	return nil
}

// begun looks for the logs of a task that is not known otherwise: it may be in its first attempt, and no server be there to say so.
func (l *logReader) begun(ctx context.Context, step string, x flow.Index, unknown error) error {
	files, err := l.run.LogFilesAt(ctx, step, x)
	if err != nil || len(files) == 0 || files[0].Batch {
		return unknown
	}
	l.one, l.only, l.groups = nil, x, [][]string{{step}}
	return nil
}

// files finds the logs of a group, those that are to be read and, of steps with many tasks, the rest, as far as limit says.
func (l *logReader) files(ctx context.Context, group []string, limit int) (read, rest []runs.LogFile, err error) {
	if l.one != nil {
		read, err = l.one.LogFiles(ctx)
		return l.wanted(read), nil, err
	}
	if l.only != nil {
		read, err = l.run.LogFilesAt(ctx, group[0], l.only)
		return l.wanted(read), nil, err
	}
	tasks := map[string]int{} // of a step
	last := ""
	for _, name := range group {
		files, err := l.run.LogFiles(ctx, name, limit)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range files {
			if task := f.Task(); task != last {
				last = task
				tasks[f.Step]++
			}
			if l.limit > 0 && tasks[f.Step] > l.limit {
				if !slices.Contains(l.more, f.Step) {
					l.more = append(l.more, f.Step)
				}
				rest = append(rest, f)
				continue
			}
			read = append(read, f)
		}
	}
	return l.wanted(read), l.wanted(rest), nil
}

func (l *logReader) wanted(files []runs.LogFile) []runs.LogFile {
	return slices.DeleteFunc(files, func(f runs.LogFile) bool { return l.filter.attempt > 0 && f.Attempt != l.filter.attempt })
}

// now prints what there is, group by group.
func (l *logReader) now(ctx context.Context) error {
	return l.each(func(group []string) error {
		read, _, err := l.files(ctx, group, l.limit)
		if err != nil {
			return err
		}
		return l.merge(ctx, read, nil)
	})
}

// each calls do for each group, and once for a single task.
func (l *logReader) each(do func(group []string) error) error {
	groups := l.groups
	if l.one != nil {
		groups = [][]string{nil}
	}
	for _, group := range groups {
		if err := do(group); err != nil {
			return err
		}
		_ = l.out.w.Flush()
		if l.out.broken() {
			return nil
		}
	}
	return nil
}

// logLine is a line as it is shown and as it is stored.
type logLine struct {
	entry logEntry
	raw   string
}

// parseLines reads the lines of a log that are wanted. A line without a time stays behind the one before it, whose time is before.
func (f logFilter) parseLines(file runs.LogFile, b []byte, before *logLine) (lines []logLine) {
	for raw := range strings.Lines(string(b)) {
		raw = strings.TrimSuffix(raw, "\n")
		e := entryOf(file.Task(), file.Attempt, file.Catch, records.ReadLogLine([]byte(raw)))
		if file.Batch {
			e.itsTask()
		}
		if e.time.IsZero() {
			e.time = before.entry.time
		}
		before.entry.time = e.time
		if f.wants(e) {
			lines = append(lines, logLine{e, raw})
		}
	}
	return lines
}

// document keeps the attributes as the step logged them: numbers stay numbers.
func (l logLine) document() logDocument {
	e := l.entry
	doc := logDocument{Time: e.time, Level: e.level, Task: e.task, Attempt: e.attempt, Catch: e.catch, Message: e.message}
	var attrs map[string]any
	if json.Unmarshal([]byte(l.raw), &attrs) != nil {
		return doc
	}
	for _, own := range []string{"time", "level", "msg"} {
		delete(attrs, own)
	}
	if len(attrs) > 0 {
		doc.Attrs = attrs
	}
	return doc
}
