package runs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

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
	files, err := t.LogFiles(ctx)
	if err != nil {
		return nil, err
	}
	var logs []Log
	for _, f := range files {
		l := Log{Attempt: f.Attempt, Catch: f.Catch}
		if l.Raw, _, err = f.ReadFrom(ctx, 0); err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(l.Raw)) {
			l.Lines = append(l.Lines, records.ReadLogLine([]byte(strings.TrimSuffix(line, "\n"))))
		}
		if len(l.Lines) > 0 || f.mine == nil {
			logs = append(logs, l)
		}
	}
	return logs, nil
}

// LogFile is the log of one attempt of a task, or of a batch, as it was found in the store. Nothing of it has been read.
type LogFile struct {
	// Step and Index say of which task it is. That of a batch has many tasks: the attribute task of a line names it, and Step and
	// Index are the first step and item.
	Step  string
	Index flow.Index
	Batch bool

	Attempt int
	Catch   bool
	// Key tells logs apart. It is where the log is in the store.
	Key string
	// Size is how long the log was when it was found, in bytes.
	Size int64

	store *artifacts.Store
	mine  func(line string) bool // nil: all lines
}

// Task is the name of the task.
func (f LogFile) Task() string { return flow.TaskName(f.Step, f.Index) }

// ReadFrom reads the lines from an offset on, which is 0 or what an earlier call returned as the next. A line that is not whole yet
// is left for the next call. Of a log that many tasks share, it returns only the lines that were asked for.
func (f LogFile) ReadFrom(ctx context.Context, offset int64) (lines []byte, next int64, err error) {
	b, err := f.store.GetDoc(ctx, f.Key)
	if err != nil {
		return nil, offset, err
	}
	if offset > int64(len(b)) { // another attempt of that number has written it anew, after a reset
		offset = 0
	}
	b = b[offset:]
	if len(b) > 0 && b[len(b)-1] != '\n' && offset > 0 {
		b = b[:bytes.LastIndexByte(b, '\n')+1]
	}
	next = offset + int64(len(b))
	if f.mine == nil {
		return b, next, nil
	}
	for line := range strings.Lines(string(b)) {
		if f.mine(line) {
			lines = append(lines, line...)
		}
	}
	return lines, next, nil
}

// Length asks how long the log is by now, in bytes. One that is gone has none.
func (f LogFile) Length(ctx context.Context) (int64, error) {
	for info, err := range f.store.List(ctx, f.Key) {
		if err != nil || info.Key == f.Key {
			return info.Size, err
		}
	}
	return 0, nil
}

// LogFiles finds the logs of all attempts, oldest first.
func (t *Task) LogFiles(ctx context.Context) ([]LogFile, error) {
	step, x, mine := t.logPlace()
	files, err := t.run.listLogs(ctx, t.Owner, step, records.LogsPrefix(t.run.Flow, t.Owner, step, x))
	for i := range files {
		files[i].mine = mine
		if mine != nil { // the batch logs under the foreach's name
			files[i].Step, files[i].Index, files[i].Batch = t.Step, t.Index, true
		}
	}
	sortLogs(files)
	return files, err
}

// LogFiles finds the logs of a step, or of all steps in a foreach: by task, then by attempt. The log of a task is taken from the run
// of the lineage that is nearest. A name that is not in the plan is [ErrNotFound]. With a limit, the logs of the first tasks of each
// step are found, that many and one more if there are more, without looking at the others. A limit of 0 is none.
func (r *Run) LogFiles(ctx context.Context, name string, limit int) ([]LogFile, error) {
	shape := r.graph().shapes[name]
	if _, isStep := r.Plan.Step(name); shape != nil && shape.Kind == flow.KindForeach && !isStep {
		var all []LogFile
		for _, n := range shape.logged() {
			if n == shape.join {
				continue
			}
			files, err := r.logFiles(ctx, n, limit)
			if err != nil {
				return nil, err
			}
			all = append(all, files...)
		}
		return all, nil
	}
	p, err := r.place(name)
	if err != nil {
		return nil, err
	}
	return r.logFiles(ctx, p, limit)
}

// LogFilesAt finds the logs of one task of a step, also when nothing else is known of the task: it may be in its first attempt.
func (r *Run) LogFilesAt(ctx context.Context, step string, x flow.Index) ([]LogFile, error) {
	p, err := r.place(step)
	if err != nil || len(x) != p.depth() {
		return nil, err
	}
	for owner, err := range r.owners(ctx, p) {
		if err != nil {
			return nil, err
		}
		files, err := (&Task{Step: step, Index: x, Owner: owner, run: r}).LogFiles(ctx)
		if len(files) > 0 || err != nil {
			return files, err
		}
	}
	return nil, nil
}

// LogGroups names what has logs, for LogFiles. What a group logs was logged, as a rule, before what the next one logs: they are the
// parts of the flow that run one after the other.
func (r *Run) LogGroups() [][]string {
	root := r.graph().root
	parts := []*place{root}
	if root.Kind == flow.KindSeq {
		parts = root.nodes
	}
	var groups [][]string
	for _, part := range parts {
		var names []string
		for _, p := range part.logged() {
			names = append(names, p.Name)
		}
		groups = append(groups, names)
	}
	return groups
}

// logged are the nodes that have logs: steps, and foreachs with batches, with the joins.
func (p *place) logged() []*place {
	var out []*place
	switch {
	case p.Kind == flow.KindStep || p.Kind == flow.KindDecide:
		return []*place{p}
	case p.batches():
		out = append(out, p)
	default:
		for _, n := range p.nodes {
			out = append(out, n.logged()...)
		}
	}
	if p.join != nil {
		out = append(out, p.join)
	}
	return out
}

// batches reports whether the node is a foreach whose items run in batches.
func (p *place) batches() bool { return p.Kind == flow.KindForeach && p.Fan != nil && p.Fan.Batch > 1 }

// logFiles finds the logs of a step, or of the batches of a foreach.
func (r *Run) logFiles(ctx context.Context, p *place, limit int) ([]LogFile, error) {
	name, first, batched := p.Name, p, p.batches() && p.batch() == nil
	var mine func(*LogFile) func(string) bool
	switch f := p.batch(); {
	case batched:
		first = p.nodes[0].firsts()[0]
	case f != nil:
		name, batched = f.Name, true
		mine = func(l *LogFile) func(string) bool {
			t := &Task{Step: p.Name, Index: l.Index, run: r, batch: true}
			_, _, mine := t.logPlace()
			return mine
		}
	}
	var all []LogFile
	seen := map[string]bool{} // indexes that a nearer run has logs of
	for owner, err := range r.owners(ctx, first) {
		if err != nil {
			return nil, err
		}
		files, err := r.stepLogs(ctx, owner, name, limit)
		if err != nil {
			return nil, err
		}
		nearer := len(all)
		for _, f := range files {
			if x := f.Index.Key(); nearer > 0 && seen[x] {
				continue
			}
			if batched {
				if f.Step, f.Batch = first.Name, true; mine != nil {
					f.Step, f.mine = p.Name, mine(&f)
				}
			}
			all = append(all, f)
		}
		for _, f := range all[nearer:] {
			seen[f.Index.Key()] = true
		}
	}
	sortLogs(all)
	return all, nil
}

// stepLogs lists the logs of a step that a run has. With a limit, those of its first tasks.
func (r *Run) stepLogs(ctx context.Context, owner, step string, limit int) ([]LogFile, error) {
	if limit == 0 {
		return r.listLogs(ctx, owner, step, records.StepLogsPrefix(r.Flow, owner, step))
	}
	at, err := records.LoggedIndexes(ctx, r.reader.store, r.Flow, owner, step)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(at, func(a, b flow.Index) int { return slices.Compare(a, b) })
	at = at[:min(len(at), limit+1)]
	parts := make([][]LogFile, len(at))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelReads)
	for i, x := range at {
		g.Go(func() (err error) {
			parts[i], err = r.listLogs(ctx, owner, step, records.LogsPrefix(r.Flow, owner, step, x))
			return err
		})
	}
	err = g.Wait()
	return slices.Concat(parts...), err
}

// listLogs lists the logs below a prefix that is of a step or of one of its tasks.
func (r *Run) listLogs(ctx context.Context, owner, step, prefix string) ([]LogFile, error) {
	base := len(records.StepLogsPrefix(r.Flow, owner, step))
	var files []LogFile
	for info, err := range r.reader.store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		index, name, _ := strings.Cut(info.Key[base:], "/")
		x, err := flow.ParseIndex(index)
		attempt, catch, ok := records.ParseLogName(name)
		if err != nil || !ok {
			continue
		}
		files = append(files, LogFile{Step: step, Index: x, Attempt: attempt, Catch: catch, Key: info.Key, Size: info.Size, store: r.reader.store})
	}
	return files, nil
}

// sortLogs sorts the logs of a step by task and attempt. A catch function comes after the attempt that it was called for.
func sortLogs(files []LogFile) {
	slices.SortStableFunc(files, func(a, b LogFile) int {
		return cmp.Or(slices.Compare(a.Index, b.Index), a.Attempt-b.Attempt, order(a.Catch)-order(b.Catch))
	})
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
