package stepwell

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
	"github.com/stepwell-flows/stepwell/policies"
)

func (c *command) policyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Explain what the policies of steps amount to",
		Example: c.examples("policy explain FLOW/STEP"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return inputf("%q is not a command of %s (see %s --help)", args[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.policyExplainCmd())
	return cmd
}

// usualAttempt is the time of an attempt if nobody says another.
const usualAttempt = 200 * time.Millisecond

func (c *command) policyExplainCmd() *cobra.Command {
	var a policies.Assumptions
	cmd := c.withJSON(&cobra.Command{
		Use: "explain FLOW[/STEP]", Short: "Calculate times, chances and load of a step's policies, and tell what looks wrong in them",
		Example: c.examples(
			"policy explain FLOW                                         a line for each step, and all warnings",
			"policy explain FLOW/STEP                                    one step: its time, attempts, waits and load",
			"policy explain FLOW/STEP --failure-rate 0.3                 while three in ten attempts fail",
			"policy explain FLOW/STEP --attempt-time 5s                  if an attempt takes five seconds",
			"policy explain FLOW/STEP --client-attempts 3 --resumes 1    what it makes of one call while everything fails"),
		Args: exactly("a flow or a step (FLOW or FLOW/STEP)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, step, one := strings.Cut(args[0], "/")
			f, err := c.app.flow(name)
			if err != nil {
				return err
			}
			if err := f.Check(); err != nil {
				return &InputError{err}
			}
			if a.ClientAttempts < 1 {
				return inputf("--client-attempts is %d (use 1 or more, the first try included)", a.ClientAttempts)
			}
			short := !cmd.Flags().Changed("attempt-time")
			all := placed(f.Plan())
			if one {
				for _, p := range all {
					if p.node.Name == step {
						return c.explainStep(p, p.assumptions(a, short))
					}
				}
				return inputf("flow %q has no step %q (it has %s)", f.Name(), step, strings.Join(f.Plan().Steps(), ", "))
			}
			return c.explainSteps(f.Plan(), all, a, short)
		},
	})
	fs := cmd.Flags()
	fs.Float64Var(&a.FailureRate, "failure-rate", 0.1, "the part of the attempts that fail and are tried again, 0 to 1")
	fs.DurationVar(&a.AttemptTime, "attempt-time", usualAttempt, "how long an attempt takes; the default is not longer than the attempt's timeout")
	fs.IntVar(&a.ClientAttempts, "client-attempts", 1, "how many attempts a client within the step makes for each of the step's, the first try included")
	fs.IntVar(&a.Resumes, "resumes", 0, "how often the run is resumed")
	return cmd
}

// placedStep is a step and where it stands.
type placedStep struct {
	flow string
	node flow.PlanNode
	// foreach says that it is in the body of one.
	foreach bool
}

// placed lists the steps of a plan in order of definition.
func placed(p flow.Plan) []placedStep {
	var all []placedStep
	var walk func(flow.PlanNode, bool)
	walk = func(n flow.PlanNode, foreach bool) {
		if n.Kind == flow.KindStep {
			all = append(all, placedStep{p.Flow, n, foreach})
		}
		for _, child := range n.Nodes {
			walk(child, foreach || n.Kind == flow.KindForeach)
		}
		if n.Join != nil {
			walk(*n.Join, foreach)
		}
	}
	walk(p.Root, false)
	return all
}

// assumptions adds what is known about the step. Where nobody gave the time of an attempt, it is not longer than its timeout.
func (p placedStep) assumptions(a policies.Assumptions, short bool) policies.Assumptions {
	a.Foreach, a.Isolated = p.foreach, p.node.Isolated != nil
	if t := p.node.Policy.At(0).Timeout.Attempt; short && t > 0 {
		a.AttemptTime = min(a.AttemptTime, t)
	}
	return a
}

// warnings are those of a flow's steps.
func warnings(p flow.Plan) []stepWarning {
	var all []stepWarning
	for _, s := range placed(p) {
		for _, w := range policies.Warnings(*s.node.Policy, s.assumptions(policies.Assumptions{}, false)) {
			all = append(all, stepWarning{s.node.Name, w})
		}
	}
	return all
}

// stepWarning is a warning about a step.
type stepWarning struct {
	Step string `json:"step"`
	policies.Warning
}

// warningLines are warnings for people, those that several steps have in common once.
func (c *command) warningLines(all []stepWarning) []string {
	var same []policies.Warning
	steps := map[policies.Warning][]string{}
	for _, w := range all {
		if steps[w.Warning] == nil {
			same = append(same, w.Warning)
		}
		steps[w.Warning] = append(steps[w.Warning], strconv.Quote(clean(w.Step)))
	}
	lines := make([]string, len(same))
	for i, w := range same {
		who := "step "
		if len(steps[w]) > 1 {
			who = "steps "
		}
		lines[i] = fmt.Sprintf("%s %s%s: %s", c.term.out.style.warn("warning:"), who, strings.Join(steps[w], ", "), clean(w.String()))
	}
	return lines
}

func (c *command) explainStep(p placedStep, a policies.Assumptions) error {
	spec := *p.node.Policy
	e, err := policies.Explain(spec, a)
	if err != nil {
		return &InputError{err}
	}
	if c.set.json {
		return c.printJSON(documentPolicy(p, e))
	}
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s: %s\n", s.bold(clean(p.flow+"/"+p.node.Name)), clean(policyText(spec)))
	for _, line := range policySentences(spec, e) {
		fmt.Fprintln(c.io.Out, clean(line))
	}
	if len(e.Waits) > 0 {
		fmt.Fprintln(c.io.Out)
		t := newTable(c.io.Out)
		t.row(s.faint("AFTER ATTEMPT"), s.faint("WAIT AT LEAST"), s.faint("ON AVERAGE"), s.faint("AT MOST"))
		for i, w := range e.Waits {
			after := strconv.Itoa(w.After)
			if i == len(e.Waits)-1 && e.Attempts > len(e.Waits)+1 {
				after += ", then longer"
				if i > 0 && w.Most == e.Waits[i-1].Most {
					after = strconv.Itoa(w.After) + " and on"
				}
			}
			t.row(after, briefly(w.Least), briefly(w.Mean), briefly(w.Most))
		}
		t.flush()
	}
	if len(e.Warnings) > 0 {
		fmt.Fprintln(c.io.Out)
	}
	for _, w := range e.Warnings {
		fmt.Fprintf(c.io.Out, "%s %s\n", s.warn("warning:"), clean(w.String()))
	}
	return nil
}

// given says what was assumed.
func given(a policies.Assumptions) string {
	text := fmt.Sprintf("%s of the attempts fail and are tried again, and each takes %s", share(a.FailureRate), briefly(a.AttemptTime))
	if a.ClientAttempts > 1 {
		text += fmt.Sprintf("; a client within makes %d attempts for each", a.ClientAttempts)
	}
	return text
}

// policySentences tells an explanation.
func policySentences(spec policies.Spec, e policies.Explanation) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	say("Taken as given: %s.", given(e.Assumptions))
	if t := spec.At(e.Climbs).Timeout.Attempt; t > 0 && e.Assumptions.AttemptTime > t {
		say("That is longer than the %s that an attempt may take, so each one fails.", briefly(t))
	}
	say("")
	if e.P50 == policies.Forever {
		say("It never succeeds, and does not end.")
	} else {
		say("It succeeds in %s of all cases, and makes %s on average.", share(e.Success), attemptsText(e.ExpectedAttempts))
		say("Half of the tasks have ended within %s, 95%% within %s, 99%% within %s; the mean is %s.", bounded(e.P50), bounded(e.P95), bounded(e.P99), bounded(e.ExpectedTime))
	}
	switch {
	case e.Worst == policies.Forever:
		say("Nothing bounds how long it may take.")
	case e.Worst == spec.Timeout.Total:
		say("None takes longer than %s, which is Timeout.Total.", briefly(e.Worst))
	default:
		say("None takes longer than %s: all attempts with all of their time, and the longest waits.", briefly(e.Worst))
	}
	if spec.Timeout.Total > 0 && e.Fit > 0 && e.Fit < e.Attempts {
		say("There is time for %s in any case, and for others only if those take less.", plural(e.Fit, "attempt"))
	}
	if e.Climbs > 0 {
		say("Up to %s more that run out of memory or time go on with the next rung of the ladder.", plural(e.Climbs, "attempt"))
	}
	asked := ""
	if most := spec.MaximumRetryAfter; e.Attempts > 1 && most > 0 {
		asked = fmt.Sprintf(" Waits that a service asks for (Retry-After, up to %s) replace those below", briefly(most))
		if most > policies.ParkAfter {
			asked += fmt.Sprintf("; for one longer than %s the task is parked, which uses no attempt", briefly(policies.ParkAfter))
		}
		if total := spec.Timeout.Total; total > 0 && most > total {
			asked += ", and one that does not fit into Timeout.Total fails it at once"
		}
		asked += "."
	}
	say("Not counted: up to %s, which are made up for.%s", plural(e.Lost, "lost worker"), asked)
	say("")
	say("%s", loadText(spec, e))
	if d := spec.Dependency; d != nil && d.Breaker.Failures > 0 {
		say("The breaker of %s %s; tasks then wait, and use no attempt.", d.Name, d.Breaker)
	}
	return lines
}

// loadText says what an outage makes of the load.
func loadText(spec policies.Spec, e policies.Explanation) string {
	text := "While everything fails, each first try becomes " + endless(e.Load.Step) + " attempts"
	if e.Load.Step == 1 {
		text = "While everything fails, each first try stays the only one"
	}
	if e.Load.Stacked > e.Load.Step {
		parts := []string{"the step's " + endless(e.Load.Step)}
		if n := e.Assumptions.ClientAttempts; n > 1 {
			parts = append(parts, fmt.Sprintf("the client's %d", n))
		}
		if n := e.Assumptions.Resumes; n > 0 {
			parts = append(parts, plural(n+1, "run"))
		}
		text += fmt.Sprintf(" and %s calls: %s", endless(e.Load.Stacked), strings.Join(parts, " × "))
	}
	text += "."
	if e.Load.Budgeted > 0 {
		text += fmt.Sprintf(" The budget keeps it at %.3g over time", e.Load.Budgeted)
		b := spec.Budget
		if d := spec.Dependency; d != nil && d.Budget.Percent > 0 && (b == nil || d.Budget.Percent < b.Percent) {
			b = &d.Budget
		}
		text += fmt.Sprintf(" (%s), all tasks together.", *b)
		if e.ExpectedAttempts > e.Load.Budgeted {
			text += fmt.Sprintf(" Under these assumptions it is spent: %.4g attempts on average are more than that, and what it refuses fails with class OverBudget.", e.ExpectedAttempts)
		}
	}
	return text
}

// endless writes a number of attempts.
func endless(n int) string {
	if n == math.MaxInt {
		return "endless"
	}
	return strconv.Itoa(n)
}

func attemptsText(n float64) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%.4g attempts", n)
}

// bounded writes a time that a task may not reach.
func bounded(d time.Duration) string {
	if d == policies.Forever {
		return "no time"
	}
	return briefly(d)
}

// share writes a part of a whole as a percentage, and one that is nearly all with what is missing.
func share(x float64) string {
	if x > 0 && x < 0.01 {
		return strconv.FormatFloat(100*x, 'g', 2, 64) + "%"
	}
	decimals := 1
	if missing := 1 - x; missing > 0 && missing < 0.1 {
		decimals = min(int(math.Ceil(-math.Log10(missing)-1e-9))-1, 6)
		x = min(x, 1-math.Pow(10, -8)) // never rounded up to all
	}
	text := strconv.FormatFloat(100*x, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + "%"
}

func (c *command) explainSteps(plan flow.Plan, all []placedStep, a policies.Assumptions, short bool) error {
	s := c.term.out.style
	docs := make([]policyDocument, 0, len(all))
	t := newTable(c.io.Out)
	t.indent = "  "
	t.row(s.faint("STEP"), s.faint("ATTEMPTS"), s.faint("SUCCEEDS"), s.faint("HALF WITHIN"), s.faint("95% WITHIN"), s.faint("AT MOST"), s.faint("LOAD IN AN OUTAGE"))
	var warned []stepWarning
	for _, p := range all {
		e, err := policies.Explain(*p.node.Policy, p.assumptions(a, short))
		if err != nil {
			return &InputError{err}
		}
		docs = append(docs, documentPolicy(p, e))
		most := "no bound"
		if e.Worst < policies.Forever {
			most = briefly(e.Worst)
		}
		t.row(clean(p.node.Name), endless(e.Attempts), share(e.Success), bounded(e.P50), bounded(e.P95), most, endless(e.Load.Stacked)+"×")
		for _, w := range e.Warnings {
			warned = append(warned, stepWarning{p.node.Name, w})
		}
	}
	if c.set.json {
		return c.printJSON(docs)
	}
	fmt.Fprintf(c.io.Out, "%s, %s\n", s.bold(clean(plan.Flow)), graphSize(len(all), graph.Shapes(plan)))
	fmt.Fprintf(c.io.Out, "Taken as given: %s.\n\n", given(a))
	t.flush()
	if len(warned) > 0 {
		fmt.Fprintln(c.io.Out)
	}
	for _, line := range c.warningLines(warned) {
		fmt.Fprintln(c.io.Out, line)
	}
	return nil
}

// policyDocument is the JSON of policy explain. Numbers without a bound are left out.
type policyDocument struct {
	Flow   string `json:"flow"`
	Step   string `json:"step"`
	Policy string `json:"policy"`
	Given  struct {
		FailureRate    float64 `json:"failure_rate"`
		AttemptSeconds float64 `json:"attempt_seconds"`
		ClientAttempts int     `json:"client_attempts"`
		Resumes        int     `json:"resumes"`
	} `json:"given"`
	Attempts        int            `json:"attempts,omitzero"`
	Climbs          int            `json:"climbs,omitzero"`
	Lost            int            `json:"lost"`
	Waits           []waitDocument `json:"waits"`
	LongestWaits    *float64       `json:"longest_waits_seconds,omitempty"`
	Worst           *float64       `json:"worst_seconds,omitempty"`
	Fit             int            `json:"fit,omitzero"`
	Success         float64        `json:"success"`
	ExpectedTries   float64        `json:"expected_attempts,omitzero"`
	ExpectedSeconds *float64       `json:"expected_seconds,omitempty"`
	P50             *float64       `json:"p50_seconds,omitempty"`
	P95             *float64       `json:"p95_seconds,omitempty"`
	P99             *float64       `json:"p99_seconds,omitempty"`
	Load            struct {
		Step     int     `json:"step,omitzero"`
		Stacked  int     `json:"stacked,omitzero"`
		Budgeted float64 `json:"budgeted,omitzero"`
	} `json:"load"`
	Warnings []policies.Warning `json:"warnings"`
}

type waitDocument struct {
	After int     `json:"after"`
	Least float64 `json:"least_seconds"`
	Mean  float64 `json:"mean_seconds"`
	Most  float64 `json:"most_seconds"`
}

func documentPolicy(p placedStep, e policies.Explanation) policyDocument {
	within := func(d time.Duration) *float64 {
		if d == policies.Forever {
			return nil
		}
		x := d.Seconds()
		return &x
	}
	number := func(n int) int {
		if n == math.MaxInt {
			return 0
		}
		return n
	}
	d := policyDocument{
		Flow: p.flow, Step: p.node.Name, Policy: policyText(*p.node.Policy),
		Attempts: number(e.Attempts), Climbs: e.Climbs, Lost: e.Lost, Waits: []waitDocument{}, LongestWaits: within(e.LongestWaits), Worst: within(e.Worst),
		Fit: number(e.Fit), Success: e.Success, ExpectedSeconds: within(e.ExpectedTime), P50: within(e.P50), P95: within(e.P95), P99: within(e.P99),
		Warnings: append([]policies.Warning{}, e.Warnings...),
	}
	if !math.IsInf(e.ExpectedAttempts, 1) {
		d.ExpectedTries = e.ExpectedAttempts
	}
	d.Given.FailureRate, d.Given.AttemptSeconds = e.Assumptions.FailureRate, e.Assumptions.AttemptTime.Seconds()
	d.Given.ClientAttempts, d.Given.Resumes = e.Assumptions.ClientAttempts, e.Assumptions.Resumes
	d.Load.Step, d.Load.Stacked, d.Load.Budgeted = number(e.Load.Step), number(e.Load.Stacked), e.Load.Budgeted
	for _, w := range e.Waits {
		d.Waits = append(d.Waits, waitDocument{w.After, w.Least.Seconds(), w.Mean.Seconds(), w.Most.Seconds()})
	}
	return d
}
