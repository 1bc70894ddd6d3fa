package stepwell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// listFlags choose runs of a list.
type listFlags struct {
	limit    int
	statuses []string
	since    string
	mine     bool
	filter   runs.Filter
}

func (c *command) listCmd() *cobra.Command {
	var o listFlags
	cmd := &cobra.Command{
		Use: "list [FLOW]", Short: "List the flows in the store, or a flow's runs, newest first",
		Example: c.examples(
			"list                                      flows with their number of runs and latest run",
			"list FLOW                                 the latest runs of a flow",
			"list FLOW --status failed --tag nightly   those that failed and have the tag",
			"list FLOW --mine --since 7d               my own of the last seven days",
			"list FLOW --project fraud --branch prod   those of a project's branch",
			"list FLOW --limit 0 --json                all runs, for scripts"),
		Args: between(0, "a flow"),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := o.parse(time.Now())
			if err != nil {
				return err
			}
			var spec runs.Pathspec
			if len(args) > 0 {
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
			if len(args) > 0 {
				return c.listRuns(cmd.Context(), reader, spec.Flow, filter, o.limit)
			}
			var given []string
			cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if f.Changed && f.Name != "json" {
					given = append(given, "--"+f.Name)
				}
			})
			if len(given) > 0 {
				return inputf("%s: these choose among a flow's runs (name the flow)", strings.Join(given, ", "))
			}
			return c.listFlows(cmd.Context(), reader)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.limit, "limit", 20, "how many runs to list, 0 for all")
	f.StringArrayVar(&o.statuses, "status", nil, "only runs with this status: running, completed, failed, cancelled or unknown (may be given several times)")
	f.StringArrayVar(&o.filter.Tags, "tag", nil, "only runs with this tag, also one that they have by themselves, like user:ada (given several times: with all of them)")
	f.StringVar(&o.filter.User, "user", "", "only runs that this user started")
	f.BoolVar(&o.mine, "mine", false, "only runs that you started")
	f.StringVar(&o.filter.Project, "project", "", "only runs of this project")
	f.StringVar(&o.filter.Branch, "branch", "", "only runs on this branch of a project: user.NAME, test.NAME, prod or prod.NAME")
	f.StringVar(&o.since, "since", "", "only runs that started since then: 90m, 24h, 7d, 2w, 2026-01-31, 2026-01-31T15:04 or RFC 3339")
	return c.withJSON(cmd)
}

// parse makes a filter of the flags, or tells all that is wrong with them.
func (o listFlags) parse(now time.Time) (runs.Filter, error) {
	known := []records.Status{records.StatusRunning, records.StatusCompleted, records.StatusFailed, records.StatusCancelled, runs.Unknown}
	f := o.filter
	var errs []error
	if o.limit < 0 {
		errs = append(errs, inputf("--limit cannot be negative (0 lists all)"))
	}
	for _, s := range o.statuses {
		if !slices.Contains(known, records.Status(s)) {
			errs = append(errs, inputf("--status %q is not a status (use running, completed, failed, cancelled or unknown)", s))
		}
		f.Statuses = append(f.Statuses, records.Status(s))
	}
	if o.since != "" {
		var err error
		f.Since, err = moment(o.since, now)
		errs = append(errs, err)
	}
	if o.mine {
		if f.User != "" {
			errs = append(errs, inputf("--mine and --user are two ways to choose a user (leave one out)"))
		}
		if f.User = systemUser(); f.User == "" {
			errs = append(errs, inputf("--mine: your user name is not known (use --user)"))
		}
	}
	return f, errors.Join(errs...)
}

// moment reads a time: how long it is ago, a day, or a time of a day, where nothing else is said in the zone of this machine.
func moment(text string, now time.Time) (time.Time, error) {
	for suffix, hours := range map[string]float64{"d": 24, "w": 7 * 24} {
		if n, err := strconv.ParseFloat(strings.TrimSuffix(text, suffix), 64); err == nil && strings.HasSuffix(text, suffix) && n >= 0 && n < 1e5 {
			return now.Add(-time.Duration(n * hours * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, inputf("--since %q is not a time (use 90m, 24h, 7d, 2w, 2026-01-31, 2026-01-31T15:04 or RFC 3339)", text)
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

// listBlock is how many runs are printed at once: of a long list, the first are to be seen soon.
const listBlock = 50

func (c *command) listRuns(ctx context.Context, reader *runs.Reader, flowName string, filter runs.Filter, limit int) error {
	docs := []runDocument{}
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("RUN"), s.faint("STATUS"), s.faint("STARTED"), s.faint("TOOK"), s.faint("USER"), s.faint("ORIGIN"), s.faint("TAGS"))
	found, more := 0, false
	for run, err := range reader.Select(ctx, flowName, filter) {
		if skippable(err) {
			fmt.Fprintln(c.io.Err, "warning:", clean(err.Error()))
			continue
		}
		if err != nil {
			return err
		}
		if limit > 0 && found == limit {
			more = true
			break
		}
		found++
		if c.set.json {
			docs = append(docs, documentFacts(run, reader.Store()))
			continue
		}
		t.row(clean(run.Run.Run), s.status(run.Status), date(run.Started), took(run), dash(clean(run.User)), dash(clean(run.Origin)),
			clean(strings.Join(listedTags(run), ", ")))
		if found%listBlock == 0 {
			t.part()
		}
	}
	switch {
	case c.set.json:
		return c.printJSON(docs)
	case found == 0:
		fmt.Fprintf(c.io.Err, "no run of %s matches\n", flowName)
	default:
		t.flush()
		if more {
			fmt.Fprintf(c.io.Err, "there are more (add --limit %d)\n", 10*limit)
		}
		if c.set.web.address != "" && c.set.web.namespace != "" {
			fmt.Fprintf(c.io.Err, "in the Temporal Web UI: %s\n", viewURL(c.set.web.address, c.set.web.namespace, filterQuery(flowName, filter)))
		}
	}
	return nil
}

// listedTags are the tags that a list shows: of those that a run has by itself, the user has a column, and the code is for show.
func listedTags(run *runs.Run) []string {
	tags := slices.Clone(run.Tags)
	if run.Project != "" {
		tags = append(tags, "project:"+run.Project, "project_branch:"+run.Branch)
	}
	return tags
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
