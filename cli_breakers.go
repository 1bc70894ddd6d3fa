package stepwell

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

func (c *command) breakersCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "breakers [NAME]", Short: "Show the services that steps call: breakers, budgets for retries, throttles",
		Example: c.examples(
			"breakers                  the dependencies that were called lately",
			"breakers NAME             one of them, with its settings and the workers that called it",
			"breakers --all            the budgets of runs, too",
			"breakers FLOW/RUN         the budget of one run",
			"breakers reset NAME       close a breaker and forget all counts"),
		Args: between(0, "a dependency"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && all {
				return inputf("--all lists all (leave out %q)", args[0])
			}
			s, done, err := c.existing(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if len(args) > 0 {
				d, err := s.Dependency(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.showBreaker(d)
			}
			return c.listBreakers(cmd.Context(), s, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the budgets of runs, too")
	reset := &cobra.Command{
		Use: "reset NAME", Short: "Close a dependency's breaker and forget all counts",
		Example: c.examples("breakers reset model     workers learn it with their next report, within some seconds"),
		Args:    exactly("a dependency"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, done, err := c.existing(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			d, err := s.ResetDependency(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.io.Out, "%s is %s\n", clean(d.Name()), d.State)
			return nil
		},
	}
	cmd.AddCommand(reset)
	return c.withJSON(cmd)
}

// existing connects to the server without starting one: while no process runs the embedded one, nothing is called. If no worker
// polls the queue of dependencies, this process does, so that they answer.
func (c *command) existing(ctx context.Context) (_ *Client, done func(), _ error) {
	o, configured, err := c.temporalOptions()
	if err != nil {
		return nil, nil, err
	}
	done = func() {}
	if !configured {
		if c.app.Dev == nil {
			return nil, nil, inputf("no Temporal server is configured (set --address or TEMPORAL_ADDRESS; this program has none built in)")
		}
		dev, err := c.app.Dev(ctx, DevOptions{Dir: c.set.stateDir, Existing: true, Logger: c.logger()})
		if err != nil {
			return nil, nil, &unusableError{fmt.Errorf("no process runs a server in %q, so nothing is called (start one: %s)", c.set.stateDir, c.hint("dev"))}
		}
		o.HostPort, o.Namespace, done = dev.Address, dev.Namespace, dev.Stop
	}
	t, err := dial(ctx, o)
	if err != nil {
		done()
		return nil, nil, err
	}
	stop := done
	done = func() { c.ending.Store(true); t.Close(); stop() }
	s := NewClient(t, nil, ClientOptions{Namespace: o.Namespace})
	if polled, err := s.Polled(ctx, activities.LimitQueue); err == nil && !polled {
		w := limitsOnly(t, workerIdentity())
		if err := w.Start(); err != nil {
			done()
			return nil, nil, &unusableError{fmt.Errorf("start a worker for dependencies: %w", err)}
		}
		disconnect := done
		done = func() { w.Stop(); disconnect() }
	}
	return s, done, nil
}

// breakerDocument is a dependency: of breakers.
type breakerDocument struct {
	Name string `json:"name"`
	// State is closed, open or half-open; left out if no worker answered, see Error.
	State  string    `json:"state,omitempty"`
	Opened time.Time `json:"opened,omitzero"`
	// Until is when an open breaker may be probed, Probe the worker that does.
	Until time.Time `json:"until,omitzero"`
	Probe string    `json:"probe,omitempty"`
	// Calls and Failures are those within the breaker's window, OpenedBy those that opened it.
	Calls    int           `json:"calls"`
	Failures int           `json:"failures"`
	OpenedBy *guard.Counts `json:"opened_by,omitempty"`
	// Retries and FirstTries are those within the budget's window, RetriesLeft how many more retries it allows.
	Retries     int `json:"retries"`
	FirstTries  int `json:"first_tries"`
	RetriesLeft int `json:"retries_left"`
	// Refused is how many calls the throttle refused within its window, Held how many the breaker did.
	Refused int `json:"refused"`
	Held    int `json:"held"`

	Settings   *policies.Dependency `json:"settings,omitempty"`
	Workers    []guard.BoardWorker  `json:"workers"`
	WorkflowID string               `json:"workflow_id"`
	Error      string               `json:"error,omitempty"`
}

func documentBreaker(d Dependency) breakerDocument {
	doc := breakerDocument{
		Name: d.Name(), State: d.State, Opened: d.Opened, Until: d.Until, Probe: d.Probe,
		Calls: d.Breaker.Calls, Failures: d.Breaker.Failures, Held: d.Breaker.Held, Refused: d.Throttle.Refused,
		Retries: d.Budget.Retries, FirstTries: d.Budget.Firsts, RetriesLeft: d.Left,
		Workers: append([]guard.BoardWorker{}, d.Workers...), WorkflowID: d.WorkflowID,
	}
	if d.Err != nil {
		doc.Error = d.Err.Error()
		return doc
	}
	doc.Settings = &d.Settings
	if d.State != guard.Closed {
		doc.OpenedBy = &d.Why
	}
	return doc
}

func (c *command) listBreakers(ctx context.Context, temporal *Client, all bool) error {
	found, err := temporal.Dependencies(ctx, all)
	if err != nil {
		return err
	}
	return c.printBreakers(found)
}

func (c *command) printBreakers(found []Dependency) error {
	docs := []breakerDocument{}
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("NAME"), s.faint("STATE"), s.faint("PROBE"), s.faint("FAILED"), s.faint("RETRIES"), s.faint("REFUSED"), s.faint("WORKERS"))
	var errs []error
	for _, d := range found {
		docs = append(docs, documentBreaker(d))
		if d.Err != nil {
			errs = append(errs, d.Err)
			t.row(clean(d.Name()), s.warn("unknown"), "-", "-", "-", "-", "-")
			continue
		}
		t.row(clean(d.Name()), c.breakerState(d), dash(probeText(d)), dash(failedText(d)), dash(retriesText(d)), dash(refusedText(d)), fmt.Sprint(len(d.Workers)))
	}
	switch {
	case c.set.json:
		return c.printJSON(docs)
	case len(docs) == 0:
		fmt.Fprintf(c.io.Err, "no dependency was called within the last ten minutes (steps name theirs with policies.Dependency)\n")
	default:
		t.flush()
	}
	for _, err := range errs {
		fmt.Fprintln(c.io.Err, "warning:", clean(err.Error()))
	}
	return nil
}

func (c *command) breakerState(d Dependency) string {
	s := c.term.out.style
	switch {
	case d.State == guard.Opened:
		return s.bad(d.State)
	case d.State == guard.HalfOpen:
		return s.warn(d.State)
	case d.Settings.Breaker.Failures == 0:
		return "-"
	default:
		return s.good(d.State)
	}
}

func probeText(d Dependency) string {
	switch {
	case d.State == guard.Opened:
		return "in " + briefly(time.Until(d.Until))
	case d.Probe != "":
		return "by " + clean(d.Probe)
	case d.State == guard.HalfOpen:
		return "next call"
	default:
		return ""
	}
}

func failedText(d Dependency) string {
	b := d.Settings.Breaker
	if b.Failures == 0 {
		return ""
	}
	c := d.Breaker
	if d.State != guard.Closed {
		c = d.Why
	}
	return fmt.Sprintf("%d of %d in %s", c.Failures, c.Calls, briefly(b.Window))
}

func retriesText(d Dependency) string {
	b := d.Settings.Budget
	if b.Percent == 0 {
		return ""
	}
	return fmt.Sprintf("%d for %d in %s, %d left", d.Budget.Retries, d.Budget.Firsts, briefly(b.Window), d.Left)
}

func refusedText(d Dependency) string {
	var parts []string
	if n := d.Breaker.Held; n > 0 {
		parts = append(parts, fmt.Sprintf("%d by the breaker", n))
	}
	if n := d.Throttle.Refused; n > 0 {
		parts = append(parts, fmt.Sprintf("%d by the throttle", n))
	}
	return strings.Join(parts, ", ")
}

// showBreaker prints one dependency.
func (c *command) showBreaker(d Dependency) error {
	if c.set.json {
		return c.printJSON(documentBreaker(d))
	}
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s %s\n", s.bold(clean(d.Name())), c.breakerState(d))
	t := newTable(c.io.Out)
	t.indent = "  "
	row := func(name, text string) {
		if text != "" {
			t.row(s.faint(name), text)
		}
	}
	if d.State != guard.Closed {
		row("open since", date(d.Opened))
	}
	row("probe", probeText(d))
	if d.Settings.Breaker.Failures > 0 {
		row("breaker", d.Settings.Breaker.String())
	}
	row("failed", failedText(d))
	if d.Settings.Budget.Percent > 0 {
		row("budget", d.Settings.Budget.String())
	}
	row("retries", retriesText(d))
	if d.Settings.Throttle.Percent > 0 {
		row("throttle", d.Settings.Throttle.String())
	}
	row("refused", refusedText(d))
	for i, w := range d.Workers {
		name := ""
		if i == 0 {
			name = "workers"
		}
		t.row(s.faint(name), clean(w.Name)+", "+date(w.Seen))
	}
	row("workflow", clean(d.WorkflowID))
	t.flush()
	return nil
}
