package stepwell

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

func (c *command) checkCmd() *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use: "check [FLOW]", Short: "Report every mistake in the definition of all flows, or of one",
		Example: c.examples(
			"check          all flows of this program; exits with 2 if one has a mistake",
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
			doc.Steps, doc.Params = len(f.Steps()), len(f.Params())
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
			fmt.Fprintf(c.io.Out, "%s %s: %s, %s\n", c.term.out.style.good("ok"), clean(doc.Flow), plural(doc.Steps, "step"), plural(doc.Params, "parameter"))
		}
	}
	return err
}

func (c *command) graphCmd() *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use: "graph FLOW", Short: "Show a flow's steps, how they follow each other, and their policies",
		Example: c.examples(
			"graph FLOW          parameters and steps with their policies",
			"graph FLOW --json   the plan: what a run is started with"),
		Args: exactly("a flow"),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := c.app.flow(args[0])
			if err != nil {
				return err
			}
			if err := f.Check(); err != nil {
				return &InputError{err}
			}
			if c.set.json {
				return c.printJSON(f.Plan())
			}
			c.graph(f.Plan())
			return nil
		},
	})
}

func (c *command) graph(p flow.Plan) {
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s, %s\n", s.bold(clean(p.Flow)), plural(len(p.Steps()), "step"))
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
	graphNodes(t, p.Root.Nodes, "", s)
	t.flush()
}

// graphNodes prints nodes, what is inside a shape indented below it.
func graphNodes(t *table, nodes []flow.PlanNode, indent string, s style) {
	for _, n := range nodes {
		switch {
		case n.Kind == flow.KindStep:
			text := ""
			if n.Policy != nil {
				text = policyText(*n.Policy)
			}
			if len(n.Cards) > 0 {
				text += "; card " + strings.Join(n.Cards, ", ")
			}
			t.row(indent+clean(n.Name), clean(text))
		case n.Kind == flow.KindSeq && n.Name == "":
			graphNodes(t, n.Nodes, indent, s)
		default:
			t.row(indent+s.faint(clean(string(n.Kind)))+" "+clean(n.Name), "")
			graphNodes(t, n.Nodes, indent+"  ", s)
		}
	}
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
		parts = append(parts, fmt.Sprintf("up to %d attempts (%s)", p.MaximumAttempts, waits))
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
	return strings.Join(parts, "; ")
}
