package stepwell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// listFilter chooses runs of a list.
type listFilter struct {
	limit    int
	statuses []string
	tags     []string
}

func (c *command) listCmd() *cobra.Command {
	var o listFilter
	cmd := &cobra.Command{
		Use: "list [FLOW]", Short: "List the flows in the store, or a flow's runs, newest first",
		Example: c.examples(
			"list                                      flows with their number of runs and latest run",
			"list FLOW                                 the latest runs of a flow",
			"list FLOW --status failed --tag nightly   those that failed and have the tag",
			"list FLOW --limit 0 --json                all runs, for scripts"),
		Args: between(0, "a flow"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			var spec runs.Pathspec
			if len(args) > 0 {
				var err error
				if spec, err = runs.ParsePathspec(args[0]); err != nil {
					return err
				}
				if spec.Run != "" {
					return inputf("%q is not a flow (see one run with: %s)", args[0], c.hint("show", args[0]))
				}
			}
			reader, done, err := c.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if len(args) == 0 && (len(o.statuses) > 0 || len(o.tags) > 0 || cmd.Flags().Changed("limit")) {
				return inputf("--status, --tag and --limit choose among a flow's runs (name the flow)")
			}
			if len(args) == 0 {
				return c.listFlows(cmd.Context(), reader)
			}
			return c.listRuns(cmd.Context(), reader, spec.Flow, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.limit, "limit", 20, "how many runs to list, 0 for all")
	f.StringArrayVar(&o.statuses, "status", nil, "only runs with this status: running, completed, failed, cancelled or unknown (may be given several times)")
	f.StringArrayVar(&o.tags, "tag", nil, "only runs with this tag (given several times: with all of them)")
	return c.withJSON(cmd)
}

func (o listFilter) check() error {
	known := []records.Status{records.StatusRunning, records.StatusCompleted, records.StatusFailed, records.StatusCancelled, runs.Unknown}
	var errs []error
	if o.limit < 0 {
		errs = append(errs, inputf("--limit cannot be negative (0 lists all)"))
	}
	for _, s := range o.statuses {
		if !slices.Contains(known, records.Status(s)) {
			errs = append(errs, inputf("--status %q is not a status (use running, completed, failed, cancelled or unknown)", s))
		}
	}
	return errors.Join(errs...)
}

func (o listFilter) match(r *runs.Run) bool {
	if len(o.statuses) > 0 && !slices.Contains(o.statuses, string(r.Status)) {
		return false
	}
	for _, tag := range o.tags {
		if !slices.Contains(r.Tags, tag) {
			return false
		}
	}
	return true
}

func (c *command) listFlows(ctx context.Context, reader *runs.Reader) error {
	names, err := reader.Flows(ctx)
	if err != nil {
		return err
	}
	flows := []flowDocument{}
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("FLOW"), s.faint("RUNS"), s.faint("LATEST"), s.faint("STATUS"), s.faint("STARTED"))
	for _, name := range names {
		ids, err := reader.IDs(ctx, name)
		if errors.Is(err, runs.ErrNotFound) || errors.Is(err, runs.ErrPathspec) {
			continue
		}
		if err != nil {
			return err
		}
		doc := flowDocument{Flow: name, Runs: len(ids)}
		cells := []string{clean(name), fmt.Sprint(len(ids))}
		latest, err := reader.Latest(ctx, name, func(*runs.Run) bool { return true })
		switch {
		case err == nil:
			facts := documentFacts(latest, reader.Store())
			doc.Latest = &facts
			cells = append(cells, clean(latest.Run.Run), s.status(latest.Status), date(latest.Started))
		case skippable(err):
			cells = append(cells, clean(err.Error()))
		case !errors.Is(err, runs.ErrNotFound):
			return err
		}
		flows = append(flows, doc)
		t.row(cells...)
	}
	switch {
	case c.set.json:
		return c.printJSON(flows)
	case len(flows) == 0:
		fmt.Fprintf(c.io.Err, "no runs in %s (start one with: %s)\n", reader.Store(), c.hint("run", "FLOW"))
	default:
		t.flush()
	}
	return nil
}

func (c *command) listRuns(ctx context.Context, reader *runs.Reader, flowName string, o listFilter) error {
	docs := []runDocument{}
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("RUN"), s.faint("STATUS"), s.faint("STARTED"), s.faint("TOOK"), s.faint("USER"), s.faint("ORIGIN"), s.faint("TAGS"))
	more := false
	for run, err := range reader.Runs(ctx, flowName) {
		if skippable(err) {
			fmt.Fprintln(c.io.Err, "warning:", clean(err.Error()))
			continue
		}
		if err != nil {
			return err
		}
		if !o.match(run) {
			continue
		}
		if o.limit > 0 && len(docs) == o.limit {
			more = true
			break
		}
		docs = append(docs, documentFacts(run, reader.Store()))
		t.row(clean(run.Run.Run), s.status(run.Status), date(run.Started), took(run), dash(clean(run.User)), dash(clean(run.Origin)),
			clean(strings.Join(run.Tags, ", ")))
	}
	switch {
	case c.set.json:
		return c.printJSON(docs)
	case len(docs) == 0:
		fmt.Fprintf(c.io.Err, "no run of %s matches\n", flowName)
	default:
		t.flush()
		if more {
			fmt.Fprintf(c.io.Err, "there are more (add --limit %d)\n", 10*o.limit)
		}
	}
	return nil
}

// skippable says that one run cannot be read, which is no reason to keep the others back.
func skippable(err error) bool {
	return errors.Is(err, artifacts.ErrCorrupt) || errors.Is(err, records.ErrNewer)
}

func took(r *runs.Run) string {
	if d := r.Duration(); d > 0 {
		return briefly(d)
	}
	return "-"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
