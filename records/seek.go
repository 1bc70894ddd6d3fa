package records

import (
	"context"
	"errors"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
)

// Seeker finds out how far a run has come, from the records of the run and of those that it reuses. It is not safe for
// concurrent use.
type Seeker struct {
	Store *artifacts.Store
	// Run is the run's document. Its tasks are looked for in its own folder, then where Reused says.
	Run Run
	// Fresh says that the run has no records of its own yet.
	Fresh bool
	// Bad maps the names of tasks whose records are not to be taken to the reason.
	Bad map[string]string
	// Taken are the tasks whose records the last Seek took, and Stopped those that it found unfinished, both in order.
	Taken   []Taken
	Stopped []Stopped

	lists []list // of the foreach shapes at which the last Seek stopped
	docs  map[string]Run
}

// list is the list of items of a foreach, and the task that wrote it.
type list struct {
	foreach string
	by      Ref
	items   flow.List
}

// Taken is a finished task.
type Taken struct {
	Ref    Ref
	Record Task
}

// Stopped is a task that is not finished.
type Stopped struct {
	Step  string
	Index flow.Index
	Why   string
}

// damagedError says that the record of a task is not the one that the task after it started from.
type damagedError struct{ task string }

func (e *damagedError) Error() string { return "the record of " + e.task + " is damaged" }

// The reasons why a task's record is not taken.
const (
	WhyNone      = "did not finish"
	WhyDamaged   = "its record is damaged"
	WhyMoved     = "it comes after another task now"
	WhyUndecided = "what follows it is new"
)

// Find finds a task's record in the run, or in those that it reuses. It fails with [artifacts.ErrNotFound] when there is none.
func (s *Seeker) Find(ctx context.Context, step string, x flow.Index) (Ref, Task, error) {
	run, own := s.Run, !s.Fresh
	for {
		if own {
			ref, rec, err := FindTask(ctx, s.Store, run.Flow, run.Run, step, x)
			if !errors.Is(err, artifacts.ErrNotFound) {
				return ref, rec, err
			}
		}
		next, ok := run.Reused[step]
		if !ok {
			return Ref{}, Task{}, artifacts.ErrNotFound
		}
		var err error
		if run, err = s.doc(ctx, next); err != nil {
			return Ref{}, Task{}, err
		}
		own = true
	}
}

// Chain are the ids of the runs that may have a task of the step, the run itself first.
func (s *Seeker) Chain(ctx context.Context, step string) ([]string, error) {
	var ids []string
	if !s.Fresh {
		ids = append(ids, s.Run.Run)
	}
	for run := s.Run; ; {
		next, ok := run.Reused[step]
		if !ok || slices.Contains(ids, next) {
			return ids, nil
		}
		ids = append(ids, next)
		var err error
		if run, err = s.doc(ctx, next); err != nil {
			return nil, err
		}
	}
}

func (s *Seeker) doc(ctx context.Context, id string) (Run, error) {
	if doc, ok := s.docs[id]; ok {
		return doc, nil
	}
	doc, err := LoadRun(ctx, s.Store, s.Run.Flow, id)
	if err != nil {
		return Run{}, err
	}
	if s.docs == nil {
		s.docs = map[string]Run{}
	}
	s.docs[id] = doc
	return doc, nil
}

// Seek moves at, which stands at the beginning of the plan's node, to the first task that is not finished, and says whether
// there is none. The items of a foreach that is not finished are not looked at: its cursor says that somebody has to.
func (s *Seeker) Seek(ctx context.Context, n flow.PlanNode, x flow.Index, at *Cursor) (done bool, _ error) {
	for {
		s.Taken, s.Stopped, s.lists = nil, nil, nil
		c := *at
		done, err := s.seek(ctx, n, x, &c)
		var damaged *damagedError
		if errors.As(err, &damaged) && s.Bad[damaged.task] == "" {
			s.Reject(damaged.task, WhyDamaged)
			continue
		}
		*at = c
		return done, err
	}
}

// Reject makes the next Seek pass over a task's record.
func (s *Seeker) Reject(task, why string) {
	if s.Bad == nil {
		s.Bad = map[string]string{}
	}
	s.Bad[task] = why
}

func (s *Seeker) seek(ctx context.Context, n flow.PlanNode, x flow.Index, at *Cursor) (done bool, _ error) {
	switch n.Kind {
	case flow.KindStep, flow.KindDecide:
		return s.task(ctx, n, x, at, nil)
	case flow.KindSeq:
		for at.Next < len(n.Nodes) {
			inside := at.Start()
			done, err := s.seek(ctx, n.Nodes[at.Next], x, inside)
			if err != nil || !done {
				at.Inside = inside
				return false, err
			}
			at.End(inside)
			at.Next++
		}
		return true, nil
	case flow.KindSwitch:
		d, ok := at.Ahead[n.Name]
		chosen := n.Chosen(d)
		if !ok || chosen < 0 {
			return false, nil
		}
		inside := at.Start()
		done, err := s.seek(ctx, n.Nodes[chosen], x, inside)
		if err != nil || !done {
			at.Inside = inside
			return false, err
		}
		at.End(inside)
		return true, nil
	case flow.KindLoop:
		for at.Ahead[n.Name].Again {
			inside := at.Start()
			done, err := s.seek(ctx, n.Nodes[0], Within(x, at.Next), inside)
			if err != nil || !done {
				at.Inside = inside
				return false, err
			}
			at.End(inside)
			at.Next++
		}
		return true, nil
	case flow.KindBranch:
		var ends []Ref
		for _, arm := range n.Nodes {
			part := at.Start()
			part.Kept = nil
			done, err := s.seek(ctx, arm, x, part)
			if err != nil {
				return false, err
			}
			if done {
				part.Outcome = Completed
				ends = append(ends, *part.Last)
			}
			at.Parts = append(at.Parts, part)
		}
		if len(ends) < len(n.Nodes) {
			return false, nil
		}
		return s.task(ctx, *n.Join, x, at, ends)
	case flow.KindForeach:
		done, err := s.task(ctx, *n.Join, x, at, nil)
		at.Look = err == nil && !done
		if d := at.Ahead[n.Name]; at.Look && at.Last != nil && d.Items != nil {
			s.lists = append(s.lists, list{n.Name, *at.Last, *d.Items})
		}
		return done, err
	default:
		return false, nil
	}
}

// Within is the index within item or turn i.
func Within(x flow.Index, i int) flow.Index { return append(slices.Clip(slices.Clone(x)), i) }

// task looks for a task that started from where at stands and, if it is a branch's join, from the ends of the arms.
func (s *Seeker) task(ctx context.Context, n flow.PlanNode, x flow.Index, at *Cursor, ends []Ref) (bool, error) {
	stop := func(why string) (bool, error) {
		s.Stopped = append(s.Stopped, Stopped{n.Name, x, why})
		return false, nil
	}
	if why := s.Bad[flow.TaskName(n.Name, x)]; why != "" {
		return stop(why)
	}
	ref, rec, err := s.Find(ctx, n.Name, x)
	switch {
	case errors.Is(err, artifacts.ErrNotFound):
		return stop(WhyNone)
	case errors.Is(err, artifacts.ErrCorrupt):
		return stop(WhyDamaged)
	case err != nil:
		return false, err
	}
	parents := ends
	if at.Last != nil {
		parents = append([]Ref{*at.Last}, ends...)
	}
	if !slices.EqualFunc(rec.Parents, parents, Ref.equal) {
		if len(rec.Parents) == len(parents) {
			for i, p := range parents {
				if p.Digest = rec.Parents[i].Digest; p.equal(rec.Parents[i]) && !rec.Parents[i].equal(parents[i]) {
					return false, &damagedError{flow.TaskName(p.Step, p.Index)}
				}
			}
		}
		return stop(WhyMoved)
	}
	if !decided(s.Run.Plan, n.Name, rec.Ahead) {
		return stop(WhyUndecided)
	}
	s.Taken = append(s.Taken, Taken{ref, rec})
	kept := at.Kept
	if kept.Wanted() {
		kept = kept.Then(KeptOf(rec), at.Last)
	}
	*at = Cursor{Next: at.Next, Last: &ref, Ahead: rec.Ahead, Kept: kept, Caught: rec.Outcome == Caught || rec.Outcome == Skipped}
	return true, nil
}

// decided says that a task's record tells all that the plan has to know before the next steps: the plan may have got another
// shape since.
func decided(p flow.Plan, task string, ahead flow.Ahead) bool {
	path := p.Path(task)
	if path == nil {
		return false
	}
	for i := len(path) - 1; i > 0; i-- {
		n, up := path[i], path[i-1]
		switch up.Kind {
		case flow.KindSeq:
			behind := false
			for k := range up.Nodes {
				if behind {
					if stop, ok := decidedInto(&up.Nodes[k], ahead); stop || !ok {
						return ok
					}
				}
				behind = behind || &up.Nodes[k] == n
			}
		case flow.KindLoop:
			if stop, ok := decidedInto(up, ahead); stop || !ok {
				return ok
			}
		case flow.KindBranch, flow.KindForeach:
			if up.Join != n {
				return true
			}
		case flow.KindStep, flow.KindDecide, flow.KindSwitch: // nothing comes after a case within its switch
		}
	}
	return true
}

// decidedInto goes into a node like the walk that decides, and says whether it came to a step, and whether all was decided.
func decidedInto(n *flow.PlanNode, ahead flow.Ahead) (stop, ok bool) {
	d, has := ahead[n.Name]
	switch n.Kind {
	case flow.KindSeq:
		for i := range n.Nodes {
			if stop, ok := decidedInto(&n.Nodes[i], ahead); stop || !ok {
				return stop, ok
			}
		}
		return false, true
	case flow.KindBranch:
		for i := range n.Nodes {
			if _, ok := decidedInto(&n.Nodes[i], ahead); !ok {
				return true, false
			}
		}
		return true, true
	case flow.KindForeach:
		return true, has && d.Items != nil
	case flow.KindSwitch:
		// Stricter than Chosen, as a resume can ask again: a case that is new may be the one.
		value := ""
		if d.Case < len(n.Cases) {
			value = n.Cases[d.Case]
		}
		if !has || d.Case >= len(n.Nodes) || d.Value != value {
			return true, false
		}
		return decidedInto(&n.Nodes[d.Case], ahead)
	case flow.KindLoop:
		if !has {
			return true, false
		}
		if !d.Again {
			return false, true
		}
		return decidedInto(&n.Nodes[0], ahead)
	default:
		return true, true
	}
}

// Any says whether any task of a step finished.
func (s *Seeker) Any(ctx context.Context, step string) (bool, error) {
	chain, err := s.Chain(ctx, step)
	if err != nil {
		return false, err
	}
	for _, id := range chain {
		switch _, err := s.Store.GetDoc(ctx, TaskKey(s.Run.Flow, id, step, nil)); {
		case err == nil:
			return true, nil
		case !errors.Is(err, artifacts.ErrNotFound):
			return false, err
		}
		for _, err := range s.Store.List(ctx, taskPrefix(s.Run.Flow, id, "tasks", step)) {
			return err == nil, err
		}
	}
	return false, nil
}

// Count counts the finished tasks of a step within a foreach, from their keys alone. Of a batch it counts the items. Same says whether
// what a run took over from the next one still holds for the step; what older ones have does not count where it does not.
func (s *Seeker) Count(ctx context.Context, step string, foreach flow.PlanNode, same func(run, next Run) bool) (int, error) {
	batches := foreach.Fan != nil && foreach.Fan.Batch > 1
	key := step
	if batches {
		key = ItemsKey(foreach.Name)
	}
	chain, err := s.Chain(ctx, key)
	if err != nil {
		return 0, err
	}
	for k := 1; k < len(chain); k++ {
		run, err := s.doc(ctx, chain[k-1])
		if err != nil {
			return 0, err
		}
		next, err := s.doc(ctx, chain[k])
		if err != nil {
			return 0, err
		}
		if !same(run, next) {
			chain = chain[:k]
		}
	}
	if batches {
		return s.countBatches(ctx, chain, foreach.Name)
	}
	seen := map[string]bool{}
	for _, id := range chain {
		prefix := taskPrefix(s.Run.Flow, id, "tasks", step)
		for info, err := range s.Store.List(ctx, prefix) {
			if err != nil {
				return 0, err
			}
			seen[info.Key[len(prefix):]] = true
		}
	}
	return len(seen), nil
}
