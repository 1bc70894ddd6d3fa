package workflows

import (
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// summary is a task's line in the Web UI.
func summary(n *flow.PlanNode, x flow.Index) string {
	p := n.Policy
	var parts []string
	if len(x) > 0 {
		parts = append(parts, flow.TaskName(n.Name, x))
	}
	if p.MaximumAttempts > 1 {
		parts = append(parts, fmt.Sprintf("up to %d attempts", p.MaximumAttempts))
	}
	if p.Timeout.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("%s each", p.Timeout.Attempt))
	}
	if p.Catch {
		parts = append(parts, "failure is caught")
	}
	if p.Limit != (policies.Limit{}) {
		parts = append(parts, p.Limit.String())
	}
	if len(parts) == 0 {
		return "one attempt"
	}
	return strings.Join(parts, ", ")
}

// progress is how far a foreach has come. It is the answer to a query.
type progress struct {
	Foreach   string     `json:"foreach"`
	Index     flow.Index `json:"index,omitempty"`
	Items     int        `json:"items"`
	Completed int        `json:"completed"`
	Failed    int        `json:"failed"`

	tally *records.Tally // of a foreach whose shards count
	ended bool
	told  told // what the details have of it
}

// told is what the Web UI was told of a foreach. The zero value says nothing was.
type told struct {
	begun, ended             bool
	items, completed, failed int
}

// ProgressQuery is the query that tells how far the foreach shapes of a run have come, as far as the workflow knows: of a
// foreach with shards, what the shards have told.
const ProgressQuery = "stepwell.progress"

// maxFans bounds the answer.
const maxFans = 50

func (r *run) answers(ctx workflow.Context) error {
	return workflow.SetQueryHandlerWithOptions(ctx, ProgressQuery, func() ([]progress, error) {
		out := []progress{}
		for _, p := range r.fans {
			out = append(out, p.now())
		}
		return out, nil
	}, workflow.QueryHandlerOptions{Description: "how far each foreach has come"})
}

func (p *progress) now() progress {
	q := *p
	if p.tally != nil {
		q.Completed, q.Failed = p.tally.Completed, p.tally.Failed
	}
	return q
}

func (p *progress) counts(t *records.Tally) { p.tally = t }

// started counts parts that have ended before.
func (p *progress) started(parts []*records.Cursor) {
	for _, c := range parts {
		switch {
		case c.Batch != nil:
			p.Completed += c.Batch.Completed
			p.Failed += c.Batch.Failed
		case c.Outcome == records.Failed:
			p.Failed++
		case c.Outcome != "":
			p.Completed++
		}
	}
}

func (r *run) begins(f *fan) *progress {
	p := &progress{Foreach: f.n.Name, Index: f.x, Items: f.list.Len}
	r.fans = append(r.fans, p)
	for i := 0; i < len(r.fans) && len(r.fans) > maxFans; i++ {
		if r.fans[i].ended {
			r.fans = append(r.fans[:i], r.fans[i+1:]...)
			i--
		}
	}
	return p
}

// item counts an item that ended in this workflow.
func (p *progress) item(err error) {
	var failure *policies.Failure
	switch {
	case err == nil:
		p.Completed++
	case errors.As(err, &failure):
		p.Failed++
	}
}

// maxSummary is about what the Web UI's timeline shows of a summary, in bytes.
const maxSummary = 100

// oneLine makes a text fit for a line of Markdown.
func oneLine(s string, limit int) string {
	s = strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "`", "'", "<", "&lt;").Replace(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// shorten cuts a text.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
