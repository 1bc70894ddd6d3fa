package stepwell

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// watch finds out what a run is doing by looking at it again and again. A look goes along the plan as far as the run has come,
// and reads what can have changed: how the run ended, what Temporal says of it, and the steps that are under way. What happens
// in a foreach is not looked at task by task: there is a count of its items.
type watch struct {
	run   *runs.Run
	store *artifacts.Store
	// steps are in the order of the plan: those outside of any foreach, each foreach in one line, and its join.
	steps []watched
	at    map[string]int // in steps, by name
	// ahead is what finished tasks have decided about the shapes that follow them, turns the turns that loops have taken.
	ahead   flow.Ahead
	turns   map[string]int
	decided map[string]bool // splits that are decided on their own, by task
	// tail shows the logs that the store has. The worker in this process shows its own.
	tail   bool
	looked bool
	fans   fanWatch
}

// watched is a step, or a foreach, as it was at the last look. Of a step in a loop it is the latest turn.
type watched struct {
	name    string
	index   flow.Index
	spec    policies.Spec
	state   runs.State
	reused  string // the run that it was taken over from
	attempt int
	catch   bool
	began   bool
	started time.Time // of the first attempt
	ended   time.Time
	pending *runs.Pending
	failure *policies.Failure
	fan     *fanCount // of a foreach; never changed, but replaced
	pace    pace      // of what the step says it has done

	told   int // attempts whose end was told
	logged map[string]int
}

// task is the name of the step's task.
func (s watched) task() string { return flow.TaskName(s.name, s.index) }

func newWatch(run *runs.Run, store *artifacts.Store, tail bool) *watch {
	w := &watch{run: run, store: store, tail: tail, at: map[string]int{}, ahead: flow.Ahead{}, turns: map[string]int{}, decided: map[string]bool{}}
	w.add(run.Plan.Root)
	return w
}

// add makes the lines of a node.
func (w *watch) add(n flow.PlanNode) {
	switch n.Kind {
	case flow.KindStep:
		s := watched{name: n.Name, state: runs.NotStarted, logged: map[string]int{}}
		if n.Policy != nil {
			s.spec = *n.Policy
		}
		w.at[n.Name] = len(w.steps)
		w.steps = append(w.steps, s)
	case flow.KindForeach:
		w.at[n.Name] = len(w.steps)
		w.steps = append(w.steps, watched{name: n.Name, state: runs.NotStarted, fan: &fanCount{}})
	case flow.KindDecide: // it takes no time, and has the name of what it decides
	default:
		for _, child := range n.Nodes {
			w.add(child)
		}
	}
	if n.Join != nil {
		w.add(*n.Join)
	}
}

// look reads the run again and returns what happened since the last look, in order.
func (w *watch) look(ctx context.Context) ([]event, error) {
	if err := w.run.Refresh(ctx); err != nil {
		return nil, err
	}
	v := &visit{watch: w, ctx: ctx}
	_, err := v.node(&w.run.Plan.Root, nil)
	w.looked = w.looked || err == nil
	slices.SortStableFunc(v.events, func(a, b event) int { return a.at.Compare(b.at) })
	return v.events, err
}

// visit is one look.
type visit struct {
	*watch
	ctx    context.Context //nolint:containedctx // a visit lives as long as one look
	events []event
	// splitEnded is when the task before what is looked at ended, if that was just read.
	splitEnded time.Time
}

// node looks at a node and says whether the run has come to its end, so that what follows is under way.
func (v *visit) node(n *flow.PlanNode, x flow.Index) (done bool, _ error) {
	switch n.Kind {
	case flow.KindStep:
		return v.step(n, x)
	case flow.KindDecide:
		return v.decide(n, x)
	case flow.KindSeq:
		for i := range n.Nodes {
			if done, err := v.node(&n.Nodes[i], x); !done || err != nil {
				return false, err
			}
		}
		return true, nil
	case flow.KindBranch:
		all := true
		for i := range n.Nodes {
			done, err := v.node(&n.Nodes[i], x)
			if err != nil {
				return false, err
			}
			all = all && done
		}
		if !all {
			return false, nil
		}
		return v.node(n.Join, x)
	case flow.KindForeach:
		return v.foreach(n, x)
	case flow.KindSwitch:
		d, ok := v.ahead[n.Name]
		chosen := n.Chosen(d)
		if !ok || chosen < 0 {
			return false, nil
		}
		for i := range n.Nodes {
			if i != chosen {
				v.skip(&n.Nodes[i])
			}
		}
		return v.node(&n.Nodes[chosen], x)
	case flow.KindLoop:
		for v.ahead[n.Name].Again {
			done, err := v.node(&n.Nodes[0], records.Within(x, v.turns[n.Name]))
			if !done || err != nil {
				return false, err
			}
			v.turns[n.Name]++
		}
		_, decided := v.ahead[n.Name]
		if decided && v.turns[n.Name] == 0 {
			v.skip(&n.Nodes[0])
		}
		return decided, nil
	default:
		return false, nil
	}
}

// skip marks what the run goes past. In a loop, another turn may come to it.
func (v *visit) skip(n *flow.PlanNode) {
	if i, ok := v.at[n.Name]; ok && n.Kind != flow.KindDecide && v.steps[i].state == runs.NotStarted {
		v.steps[i].state = runs.Skipped
	}
	if n.Kind == flow.KindForeach {
		v.skip(n.Join)
		return
	}
	for i := range n.Nodes {
		v.skip(&n.Nodes[i])
	}
	if n.Join != nil {
		v.skip(n.Join)
	}
}

// line is the line of a step or foreach. One of an earlier turn of a loop begins anew.
func (v *visit) line(name string, x flow.Index) *watched {
	s := &v.steps[v.at[name]]
	if s.began && !s.index.Equal(x) {
		fresh := watched{name: s.name, spec: s.spec, state: runs.NotStarted, logged: map[string]int{}}
		if s.fan != nil {
			fresh.fan = &fanCount{}
		}
		*s = fresh
	}
	s.index = x
	return s
}

// task reads a task, nil when it has not begun.
func (v *visit) task(name string) (*runs.Task, error) {
	if t := v.run.PendingTask(name); t != nil {
		return t, nil
	}
	t, err := v.run.Task(v.ctx, name)
	if errors.Is(err, runs.ErrNotFound) {
		return nil, nil // a turn that has not begun
	}
	if err != nil || t.State == runs.NotStarted || t.State == runs.Skipped || t.State == runs.InBatches {
		return nil, err
	}
	if t.Record != nil {
		maps.Copy(v.ahead, t.Record.Ahead)
		v.splitEnded = t.Record.Ended
	}
	return t, nil
}

// decide looks at a split that is decided on its own. Nobody is told of it.
func (v *visit) decide(n *flow.PlanNode, x flow.Index) (bool, error) {
	name := flow.TaskName(n.Name, x)
	if v.decided[name] {
		return true, nil
	}
	t, err := v.task(name)
	v.decided[name] = err == nil && t != nil && t.Record != nil
	return v.decided[name], err
}

func (v *visit) step(n *flow.PlanNode, x flow.Index) (done bool, _ error) {
	s := v.line(n.Name, x)
	if !s.ended.IsZero() {
		return s.state == runs.Completed || s.state == runs.Caught, nil
	}
	t, err := v.task(s.task())
	if err != nil || t == nil {
		return false, err
	}
	return t.Record != nil, v.update(s, t)
}

// update takes over a task's state and adds what that means to the events.
func (v *visit) update(s *watched, t *runs.Task) error {
	ctx := v.ctx
	s.state, s.pending = t.State, t.Pending
	if t.Reused() {
		s.began, s.reused, s.ended = true, t.Owner, t.Record.Ended
		return nil
	}
	var attempts []runs.Attempt
	if p := t.Pending; p == nil || p.Catch || p.Attempt > s.told+1 {
		var err error
		if attempts, err = t.Attempts(ctx); err != nil {
			return err
		}
	}
	if !s.began {
		s.began, s.started = true, began(t, attempts)
		v.events = append(v.events, event{at: s.started, kind: eventStarted, step: *s})
	}
	for i, a := range attempts {
		if i < s.told || a.Outcome == records.Completed {
			continue
		}
		s.told = i + 1
		s.attempt, s.failure = a.Attempt.Attempt, a.Failure
		v.events = append(v.events, event{at: a.Ended, kind: eventTried, step: *s, tried: a})
	}
	switch p := t.Pending; {
	case p != nil && p.Catch: // the number is of the catch's own attempts
		s.catch, s.failure = true, p.Failure
	case p != nil:
		s.attempt, s.failure = p.Attempt, p.Failure
		if p.Done > 0 {
			s.pace.see(p.Done, p.Attempt, time.Now())
		}
	case t.Record != nil:
		s.attempt = t.Record.Attempt
	}
	if v.tail && (v.looked || t.Record == nil) { // not of steps that were over before anybody looked
		if err := v.logs(s, t); err != nil {
			return err
		}
	}
	end := event{at: time.Now()}
	switch t.State {
	case runs.Completed:
		end.kind, end.at = eventCompleted, t.Record.Ended
	case runs.Caught:
		end.kind, end.at, s.failure = eventCaught, t.Record.Ended, t.Record.Failure
	case runs.Failed:
		end.kind = eventFailed
		switch {
		case t.Failure != nil:
			s.failure = t.Failure
		case v.run.Failure != nil && v.run.Failure.Task == "":
			s.failure = v.run.Failure
		}
		if s.failure != nil && !s.failure.Time.IsZero() {
			end.at = s.failure.Time
		} else if !v.run.Ended.IsZero() {
			end.at = v.run.Ended
		}
	case runs.Cancelled:
		end.kind = eventCancelled
		if !v.run.Ended.IsZero() {
			end.at = v.run.Ended
		}
	default:
		return nil
	}
	s.ended = end.at
	end.step = *s
	v.events = append(v.events, end)
	return nil
}

// began is when a task's first attempt started. A task that waits for a worker begins with the look that saw it.
func began(t *runs.Task, attempts []runs.Attempt) time.Time {
	switch {
	case len(attempts) > 0 && !attempts[0].Started.IsZero():
		return attempts[0].Started
	case t.Record != nil:
		return t.Record.Started
	case t.Pending != nil && !t.Pending.Started.IsZero():
		return t.Pending.Started
	}
	return time.Now()
}

// logs adds the lines that the store has got since the last look, of attempts that can still get some.
func (v *visit) logs(s *watched, t *runs.Task) error {
	type source struct {
		attempt int
		catch   bool
	}
	last := max(s.attempt, 1)
	sources := []source{{last - 1, false}, {last, false}}
	if s.spec.Catch && (s.catch || t.State == runs.Caught || t.State == runs.Failed) {
		sources = append(sources, source{last, true})
	}
	for _, from := range sources {
		if from.attempt < 1 {
			continue
		}
		key := records.LogKey(v.run.Flow, t.Owner, s.name, t.Index, from.attempt, from.catch)
		b, err := v.store.GetDoc(v.ctx, key)
		if errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			if n++; n <= s.logged[key] {
				continue
			}
			e := entryOf(t.Name(), from.attempt, from.catch, records.ReadLogLine([]byte(strings.TrimSuffix(line, "\n"))))
			if !e.routine() {
				v.events = append(v.events, event{at: e.time, kind: eventLog, step: *s, log: e})
			}
		}
		s.logged[key] = max(s.logged[key], n)
	}
	return nil
}

// maximumAttempts is the limit of a step's attempts in a plan.
func maximumAttempts(p flow.Plan, step string) int {
	if n, ok := p.Step(step); ok && n.Policy != nil {
		return n.Policy.MaximumAttempts
	}
	return 1
}
