package stepwell

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
	"github.com/stepwell-flows/stepwell/policies"
)

func (c *command) checkCmd() *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use: "check [FLOW]", Short: "Report every mistake in the definition of all flows, or of one",
		Example: c.examples(
			"check          all flows of this program; exits with 2 if one has a mistake, not for warnings",
			"check FLOW     one flow"),
		Args: between(0, "a flow"),
		RunE: func(_ *cobra.Command, args []string) error {
			flows := c.app.Flows
			if len(args) > 0 {
				f, err := c.app.flow(args[0])
				if err != nil {
					return err
				}
				flows = []*flow.Flow{f}
			}
			return c.check(flows)
		},
	})
}

func (c *command) check(flows []*flow.Flow) error {
	docs := []checkDocument{}
	for _, f := range flows {
		doc := checkDocument{Flow: f.Name(), OK: true}
		if err := f.Check(); err != nil {
			doc.OK, doc.Errors = false, strings.Split(err.Error(), "\n")
		} else {
			p := f.Plan()
			doc.Steps, doc.Shapes, doc.Params, doc.Warnings = len(p.Steps()), graph.Shapes(p), len(p.Params), warnings(p)
		}
		docs = append(docs, doc)
	}
	err := checkFlows(flows) // with what concerns several flows
	if c.set.json {
		if printed := c.printJSON(docs); printed != nil || err == nil {
			return printed
		}
		return err
	}
	for _, doc := range docs {
		if doc.OK {
			fmt.Fprintf(c.io.Out, "%s %s: %s, %s\n", c.term.out.style.good("ok"), clean(doc.Flow), graphSize(doc.Steps, doc.Shapes), plural(doc.Params, "parameter"))
			for _, line := range c.warningLines(doc.Warnings) {
				fmt.Fprintln(c.io.Out, " ", line)
			}
		}
	}
	return err
}

func (c *command) graphCmd() *cobra.Command {
	format := ""
	cmd := c.withJSON(&cobra.Command{
		Use: "graph FLOW", Short: "Show a flow's steps, how they follow each other, and their policies",
		Example: c.examples(
			"graph FLOW                    parameters, and steps and shapes as they are written",
			"graph FLOW --format mermaid   a diagram for Markdown",
			"graph FLOW --format dot       a diagram for Graphviz: | dot -Tsvg > flow.svg",
			"graph FLOW --json             the plan: what a run is started with"),
		Args: exactly("a flow"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := c.app.flow(args[0])
			if err != nil {
				return err
			}
			if c.set.json {
				if cmd.Flags().Changed("format") && format != "json" {
					return inputf("--json and --format %s exclude each other (give one)", format)
				}
				format = "json"
			}
			return c.graph(f, format)
		},
	})
	cmd.Flags().StringVar(&format, "format", "text", "what to print: text, dot, mermaid or json")
	return cmd
}

func (c *command) graph(f *flow.Flow, format string) error {
	if !slices.Contains([]string{"text", "dot", "mermaid", "json"}, format) {
		return inputf("--format %q is not a format (use text, dot, mermaid or json)", format)
	}
	if err := f.Check(); err != nil {
		return &InputError{err}
	}
	p := f.Plan()
	switch format {
	case "json":
		return c.printJSON(p)
	case "dot":
		fmt.Fprint(c.io.Out, graph.DOT(p))
	case "mermaid":
		fmt.Fprint(c.io.Out, graph.Mermaid(p))
	default:
		c.graphText(p)
	}
	return nil
}

func (c *command) graphText(p flow.Plan) {
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s, %s\n", s.bold(clean(p.Flow)), graphSize(len(p.Steps()), graph.Shapes(p)))
	t := newTable(c.io.Out)
	t.indent = "  "
	if len(p.Params) > 0 {
		fmt.Fprintln(c.io.Out, "\n"+s.faint("PARAMETERS"))
		for _, param := range p.Params {
			value := ""
			switch {
			case param.Required:
				value = "required"
			case param.Default != nil:
				value = "default " + *param.Default
			}
			t.row("--"+clean(param.Name), string(param.Kind), clean(value), clean(param.Help))
		}
		t.flush()
	}
	fmt.Fprintln(c.io.Out, "\n"+s.faint("STEPS"))
	for _, line := range graph.Outline(p) {
		name := clean(line.Name)
		if line.Word != "" {
			name = strings.TrimSuffix(s.faint(line.Word)+" "+name, " ")
		}
		var notes []string
		if line.Note != "" {
			notes = append(notes, line.Note)
		}
		if n := line.Node; n.Policy != nil {
			notes = append(notes, policyText(*n.Policy))
		}
		if cards := line.Node.Cards; len(cards) > 0 {
			notes = append(notes, "card "+strings.Join(cards, ", "))
		}
		t.row(strings.Repeat("  ", line.Depth)+name, clean(strings.Join(notes, "; ")))
	}
	t.flush()
}

// graphSize is "9 steps", with the shapes of a flow that has some.
func graphSize(steps, shapes int) string {
	if shapes == 0 {
		return plural(steps, "step")
	}
	return plural(steps, "step") + ", " + plural(shapes, "shape")
}

// policyText says in words what happens when a step fails.
func policyText(p policies.Spec) string {
	var parts []string
	if p.MaximumAttempts == 1 {
		parts = append(parts, "one attempt")
	} else {
		waits := fmt.Sprintf("waits from %s", briefly(p.InitialInterval))
		switch {
		case p.BackoffCoefficient == 1:
			waits = fmt.Sprintf("waits of %s", briefly(p.InitialInterval))
		default:
			waits += fmt.Sprintf(", times %v each, at most %s", p.BackoffCoefficient, briefly(p.MaximumInterval))
		}
		if p.Jitter != policies.NoJitter {
			waits += fmt.Sprintf(", %s jitter", p.Jitter)
		}
		attempts := fmt.Sprintf("up to %d attempts", p.MaximumAttempts)
		if p.MaximumAttempts >= math.MaxInt32 {
			attempts = "attempts without end"
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", attempts, waits))
	}
	for _, t := range []struct {
		d    time.Duration
		text string
	}{
		{p.Timeout.Attempt, "%s per attempt"},
		{p.Timeout.Total, "%s in all"},
		{p.Timeout.Queue, "%s to find a worker"},
		{p.Timeout.Heartbeat, "lost after %s of silence"},
	} {
		if t.d > 0 {
			parts = append(parts, fmt.Sprintf(t.text, briefly(t.d)))
		}
	}
	if len(p.NonRetryable) > 0 {
		parts = append(parts, "not again after "+strings.Join(p.NonRetryable, ", "))
	}
	if p.HasRetryIf {
		parts = append(parts, "a function decides whether to try again")
	}
	if p.Catch {
		parts = append(parts, "the failure is caught")
	}
	if p.Limit.Max > 0 {
		parts = append(parts, p.Limit.String())
	}
	return strings.Join(parts, "; ")
}
