package runs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// Log is the log of one attempt.
type Log struct {
	Attempt int
	// Catch says that the catch function wrote it.
	Catch bool
	Lines []records.LogLine
	// Raw is the log as it is stored: a JSON object per line.
	Raw []byte
}

// Logs reads the logs of all attempts that wrote any, oldest first.
func (t *Task) Logs(ctx context.Context) ([]Log, error) {
	var logs []Log
	step, x, mine := t.logPlace()
	for info, err := range t.run.reader.store.List(ctx, records.LogsPrefix(t.run.Flow, t.Owner, step, x)) {
		if err != nil {
			return nil, err
		}
		l := Log{}
		var ok bool
		if l.Attempt, l.Catch, ok = records.ParseLogName(path.Base(info.Key)); !ok {
			continue
		}
		b, err := t.run.reader.store.GetDoc(ctx, info.Key)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if mine != nil && !mine(line) {
				continue
			}
			l.Raw = append(l.Raw, line...)
			l.Lines = append(l.Lines, records.ReadLogLine([]byte(strings.TrimSuffix(line, "\n"))))
		}
		if len(l.Lines) > 0 || mine == nil {
			logs = append(logs, l)
		}
	}
	// Keys list a catch function's log before that of its attempt.
	slices.SortStableFunc(logs, func(a, b Log) int { return cmp.Or(a.Attempt-b.Attempt, order(a.Catch)-order(b.Catch)) })
	return logs, nil
}

// logPlace is where a task's logs are, and which lines there are its own. The items of a batch log together: a line has the
// attribute task, with the name of the task that it is of.
func (t *Task) logPlace() (step string, x flow.Index, mine func(line string) bool) {
	p := t.run.graph().tasks[t.Step]
	if p == nil || p.batch() == nil {
		return t.Step, t.Index, nil
	}
	f, n := p.batch(), len(t.Index)-1
	x = append(slices.Clone(t.Index[:n]), t.Index[n]/f.Fan.Batch*f.Fan.Batch)
	return f.Name, x, func(line string) bool {
		var of struct {
			Task string `json:"task"`
		}
		if json.Unmarshal([]byte(line), &of) != nil || of.Task == "" {
			return !t.batch || p == f.nodes[0].firsts()[0]
		}
		step, y, err := flow.ParseTaskName(of.Task)
		return err == nil && step == t.Step && (t.batch || len(y) > n && y[:n+1].Equal(t.Index))
	}
}

func order(second bool) int {
	if second {
		return 1
	}
	return 0
}

// Cards lists the names of the task's cards.
func (t *Task) Cards(ctx context.Context) ([]string, error) {
	var names []string
	for info, err := range t.run.reader.store.List(ctx, records.CardsPrefix(t.run.Flow, t.Owner, t.Step, t.Index)) {
		if err != nil {
			return nil, err
		}
		if name, ok := strings.CutSuffix(path.Base(info.Key), ".html"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Card reads a card, a whole HTML page.
func (t *Task) Card(ctx context.Context, name string) ([]byte, error) {
	if why := checkName(name); why != "" {
		return nil, fmt.Errorf("%w card %q: %s", ErrPathspec, name, why)
	}
	b, err := t.run.reader.store.GetDoc(ctx, records.CardKey(t.run.Flow, t.Owner, t.Step, t.Index, name))
	if errors.Is(err, artifacts.ErrNotFound) {
		names, _ := t.Cards(ctx)
		hint := "the step has none; add cards.Default() to it"
		if len(names) > 0 {
			hint = "it has " + strings.Join(names, ", ")
		}
		return nil, fmt.Errorf("card %q of %s: %w (%s)", name, t.Pathspec(), ErrNotFound, hint)
	}
	return b, err
}
