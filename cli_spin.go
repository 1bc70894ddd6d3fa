package stepwell

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// spinOptions are the flags of spin.
type spinOptions struct {
	params  []string
	persist string
}

func (c *command) spinCmd() *cobra.Command {
	var o spinOptions
	cmd := c.withJSON(&cobra.Command{
		Use: "spin FLOW/RUN/STEP", Short: "Run one task of a run once more on its recorded input, without touching the run",
		Long: `Run one task of a run once more, in this process, on what it started from then, with the code of
this program. It does not matter whether the task completed or failed.

The run is not touched: nothing is written to its store, and no Temporal server is needed. The
step is called once, as the attempt that finished the task or failed last. Its timeout holds, and
isolated steps and commands run as they are; retries, catch functions, limits and circuit
breakers do not apply. Calls that the step makes are real, with the idempotency key that they
had in the run.

Exit codes: 0 the step completed, 1 it failed; the others as of all commands.`,
		Example: c.examples(
			"spin FLOW/latest/STEP                        a step, once more",
			"spin 'FLOW/latest/STEP[3]' --param k=v       an item of a foreach, with another parameter",
			"spin FLOW/latest/STEP --persist ./spun       and keep what it makes, to read it with --store ./spun"),
		Args: exactly("a task (Flow/run/step, or Flow/latest/step)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.spin(cmd.Context(), args[0], o)
		},
	})
	f := cmd.Flags()
	f.StringArrayVar(&o.params, "param", nil, "change a parameter of the run: name=value, may be repeated")
	f.StringVar(&o.persist, "persist", "", "keep what the step makes in this store: a directory or s3://bucket/prefix, not the run's")
	return cmd
}

func (c *command) spin(ctx context.Context, spec string, o spinOptions) error {
	if err := checkTaskSpec(spec); err != nil {
		return err
	}
	given, err := keyValues(o.params)
	if err != nil {
		return err
	}
	p, err := runs.ParsePathspec(spec)
	if err != nil {
		return err
	}
	f, err := c.app.flow(p.Flow)
	if err != nil {
		return err
	}
	t, done, err := c.openTask(ctx, spec)
	if err != nil {
		return err
	}
	defer done()
	options := SpinOptions{Params: given, Redact: c.app.Redact, Classify: c.app.Classify, Log: newLineHandler(c.io.Err, c.term.err.style, false)}
	if o.persist != "" {
		if options.Persist, err = c.ownStore(ctx, o.persist, t.run.Store()); err != nil {
			return err
		}
	}
	if !c.set.json {
		fmt.Fprintf(c.io.Err, "running %s once more\n", clean(t.task.Pathspec()))
	}
	spun, err := Spin(ctx, f, t.task, options)
	if err != nil {
		return err
	}
	defer spun.Close()
	doc, err := c.documentSpin(ctx, spun)
	if err != nil {
		return err
	}
	doc.Store = o.persist
	if c.set.json {
		err = c.printJSON(doc)
	} else {
		c.printSpin(doc)
	}
	if err == nil && doc.Failure != nil {
		return &exitError{ExitFailed}
	}
	return err
}

// ownStore opens a store that is not the run's.
func (c *command) ownStore(ctx context.Context, location string, not *artifacts.Store) (*artifacts.Store, error) {
	s, err := artifacts.Open(ctx, location, artifacts.Options{})
	if err != nil {
		return nil, &InputError{err}
	}
	if s.String() == not.String() {
		return nil, inputf("--persist %q is the store of the run, which spin leaves as it is (name another)", location)
	}
	if err := s.Check(ctx); err != nil {
		return nil, &unusableError{err}
	}
	return s, nil
}

// spinDocument is what became of a task that was run once more: of spin.
type spinDocument struct {
	Pathspec string `json:"pathspec"`
	// Step is the step that was run last: another one than the task's if that comes later in an item of a batch.
	Step string `json:"step"`
	// Attempt is the attempt that the step saw.
	Attempt         int     `json:"attempt"`
	DurationSeconds float64 `json:"duration_seconds"`
	// Failure is null if the step completed.
	Failure *policies.Failure `json:"failure"`
	// Set is what the step made.
	Set []artifactDocument `json:"set"`
	// Recorded is the state of the task in the run, and SameFailure says that it failed in the same way there: with the same class and
	// message.
	Recorded    runs.State `json:"recorded"`
	SameFailure bool       `json:"same_failure,omitempty"`
	// Differs are artifacts of the record (a) that are different now (b). Null says that there is nothing to compare with.
	Differs []artifactDiffDocument `json:"differs"`
	// Ahead says that something else was decided about what follows.
	Ahead []aheadDiffDocument `json:"decisions,omitempty"`
	Usage *records.Usage      `json:"usage,omitempty"`
	// Store is where it is kept, if it is.
	Store string `json:"store,omitempty"`

	was  *policies.Failure
	kept string // its pathspec there
	task string // its step
}

func (c *command) documentSpin(ctx context.Context, s *Spun) (spinDocument, error) {
	width := 60
	if w := c.term.out.width(); w > 0 {
		width = max(w/3, 30)
	}
	t := s.Task
	doc := spinDocument{
		Pathspec: t.Pathspec(), Step: s.Step, Attempt: s.Attempt, DurationSeconds: s.Ended.Sub(s.Started).Seconds(), Failure: s.Failure,
		Set: []artifactDocument{}, Recorded: t.State, Usage: s.Usage, task: t.Step, kept: t.Run().Flow + "/" + t.Owner + "/" + t.Name(),
	}
	if err := t.Explain(ctx); err != nil {
		return doc, err
	}
	doc.was = t.Failure
	doc.SameFailure = t.Failure != nil && s.FailedLike(t.Failure.Class, t.Failure.Message)
	for _, name := range s.Changed {
		e, ok := s.Artifacts[name]
		if !ok {
			continue // it was emptied
		}
		d, err := documentEntry(ctx, s.Store, name, e, width, true)
		if err != nil {
			return doc, err
		}
		doc.Set = append(doc.Set, d)
	}
	if s.Failure == nil && t.Record != nil && t.State != runs.Caught {
		err := doc.compare(ctx, s, width)
		return doc, err
	}
	return doc, nil
}

// compare says what differs from what the run has.
func (d *spinDocument) compare(ctx context.Context, s *Spun, width int) error {
	stores := [2]*artifacts.Store{s.Task.Run().Store(), s.Store}
	differs, err := documentArtifactDiffs(ctx, s.Output(), stores, width, true)
	if err != nil {
		return err
	}
	d.Differs = append([]artifactDiffDocument{}, differs...)
	for _, a := range runs.DiffAhead(s.Task.Record.Ahead, s.SpinResult.Ahead) {
		d.Ahead = append(d.Ahead, aheadDiffDocument(a))
	}
	return nil
}

func (c *command) printSpin(doc spinDocument) {
	s := c.term.out.style
	took := briefly(seconds(doc.DurationSeconds))
	name := s.bold(clean(doc.Pathspec))
	if f := doc.Failure; f != nil {
		where := ""
		if f.Task != "" && f.Step != doc.task {
			where = " at " + named(clean(f.Task))
		}
		fmt.Fprintf(c.io.Out, "%s %s%s after %s: %s\n", name, s.bad("failed"), where, took, failureText(f))
		if f.Stack != "" {
			fmt.Fprintf(c.io.Out, "%s\n", s.faint(cleanText(f.Stack)))
		}
		switch {
		case doc.SameFailure:
			fmt.Fprintln(c.io.Out, "it failed in the same way in the run")
		case doc.was != nil:
			fmt.Fprintf(c.io.Out, "in the run it failed: %s\n", failureText(doc.was))
		default:
			fmt.Fprintf(c.io.Out, "in the run it is %s\n", s.state(doc.Recorded))
		}
		return
	}
	fmt.Fprintf(c.io.Out, "%s %s after %s", name, s.good("completed"), took)
	if u := doc.Usage; u != nil {
		fmt.Fprintf(c.io.Out, ", %s of memory, %s of processors", byteSize(u.PeakMemory), briefly(max(u.CPU, time.Millisecond)))
	}
	fmt.Fprintln(c.io.Out)
	if len(doc.Set) > 0 {
		t := newTable(c.io.Out)
		t.indent = "  "
		t.row(s.faint("SET"), s.faint("TYPE"), s.faint("SIZE"), s.faint("VALUE"), s.faint("IN THE RUN"))
		for _, a := range doc.Set {
			t.row(clean(a.Name), clean(a.Type), byteSize(a.Size), clean(a.Preview), doc.compared(a.Name))
		}
		t.flush()
	}
	for _, d := range doc.Differs {
		if d.B == nil || !slices.ContainsFunc(doc.Set, func(a artifactDocument) bool { return a.Name == d.Name }) {
			fmt.Fprintf(c.io.Out, "  %s: in the run it set %s\n", clean(d.Name), diffValue(d.A))
		}
	}
	for _, a := range doc.Ahead {
		fmt.Fprintf(c.io.Out, "decided about %s: %s, in the run %s\n", clean(a.Shape), decisionText(a.B), decisionText(a.A))
	}
	switch {
	case doc.Differs == nil && doc.was != nil:
		fmt.Fprintf(c.io.Out, "in the run it failed: %s\n", failureText(doc.was))
	case doc.Differs == nil:
		fmt.Fprintf(c.io.Out, "in the run it is %s\n", s.state(doc.Recorded))
	case len(doc.Differs) == 0 && len(doc.Ahead) == 0:
		fmt.Fprintln(c.io.Out, "it made the same in the run")
	}
	if doc.Store != "" {
		fmt.Fprintf(c.io.Out, "kept: %s --store %s show %s\n", quoteWord(c.name), quoteWord(clean(doc.Store)), quoteWord(clean(doc.kept)))
	}
}

// compared says of an artifact what the run has.
func (d spinDocument) compared(name string) string {
	if d.Differs == nil {
		return ""
	}
	for _, diff := range d.Differs {
		if diff.Name == name {
			return diffValue(diff.A)
		}
	}
	return "the same"
}
