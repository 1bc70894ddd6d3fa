package runs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// CompareOptions are the choices of a comparison. The zero value is ready.
type CompareOptions struct {
	// All goes through all steps. Otherwise it ends with the first step that differs.
	All bool
	// Tasks is how many tasks that differ are kept of a step with many. Defaults to 5; a negative number means all.
	Tasks int
}

// Diff is what differs between two runs of a flow. What is the same is left out.
type Diff struct {
	A, B *Run
	// Params are the parameters that differ, by name.
	Params []ParamDiff
	// Added and Removed are the steps of the plan that only B or only A has.
	Added, Removed []string
	// Steps are those that differ, in the order of B's plan. Without CompareOptions.All it is the first one.
	Steps []StepDiff
}

// Same says that nothing differs: neither the parameters, the code, the plan and the status, nor any step that was compared.
func (d *Diff) Same() bool {
	return len(d.Params) == 0 && len(d.Added) == 0 && len(d.Removed) == 0 && len(d.Steps) == 0 &&
		d.A.Code == d.B.Code && d.A.Status == d.B.Status
}

// ParamDiff is a parameter that differs. A value that a run does not have is nil.
type ParamDiff struct {
	Name string
	A, B *string
}

// StepDiff is a step that differs.
type StepDiff struct {
	Step string
	// Same and Differ count tasks that both runs have, OnlyA and OnlyB those that one has.
	Same, Differ, OnlyA, OnlyB int
	// Tasks are those that differ, the first of them if there are many.
	Tasks []TaskDiff
}

// TaskDiff is how a task differs.
type TaskDiff struct {
	Task string
	// A and B are the task in both runs, nil in one that did not begin it.
	A, B *Task
	// Untold says that the run without the task may have begun it all the same, in an item of a batch which does not tell of it.
	Untold bool
	// CodeA and CodeB are the versions of the code that executed the task, if they differ and that is not so for the runs as a whole.
	CodeA, CodeB string
	// Input are the artifacts that differ in the state that it started from, parameters left out: [Diff.Params] has them.
	Input []ArtifactDiff
	// Item says that its item of a foreach differs.
	Item bool
	// Inputs is how many inputs of a foreach's join differ.
	Inputs int
	// Output are the artifacts that differ among those that the task set, in either run.
	Output []ArtifactDiff
	// Ahead are the shapes behind the task about which something else was decided.
	Ahead []AheadDiff
	// Failed says that the tasks ended differently: in another state, or with another failure.
	Failed bool
}

// Same says that nothing differs.
func (d *TaskDiff) Same() bool {
	return d.A != nil && d.B != nil && d.CodeA == d.CodeB && len(d.Input) == 0 && !d.Item && d.Inputs == 0 && len(d.Output) == 0 &&
		len(d.Ahead) == 0 && !d.Failed
}

// ArtifactDiff is an artifact that differs. An entry is nil where it is not there.
type ArtifactDiff struct {
	Name string
	A, B *artifacts.Entry
}

// AheadDiff is a shape about which something else was decided.
type AheadDiff struct {
	Shape string
	A, B  flow.Decision
}

// Compare says what differs between two runs of a flow. It compares digests, and reads no artifacts; of the items of a foreach whose lists
// differ it reads those that both have. Runs of two flows are [ErrPathspec].
func Compare(ctx context.Context, a, b *Run, o CompareOptions) (*Diff, error) {
	if a.Flow != b.Flow {
		return nil, fmt.Errorf("%w: %s and %s are runs of two flows", ErrPathspec, a.Pathspec(), b.Pathspec())
	}
	if o.Tasks == 0 {
		o.Tasks = 5
	}
	d := &Diff{A: a, B: b, Params: diffParams(a.Params, b.Params)}
	before, now := a.Plan.Steps(), b.Plan.Steps()
	d.Removed = without(before, now)
	d.Added = without(now, before)
	c := newComparer(a, b)
	differs := map[string]int{} // tasks that differ, by the foreach around their step
	for _, name := range now {
		if slices.Contains(d.Added, name) {
			continue
		}
		s, err := c.step(ctx, name, o.Tasks, differs)
		if err != nil {
			return nil, err
		}
		if s.Differ+s.OnlyA+s.OnlyB == 0 {
			continue
		}
		d.Steps = append(d.Steps, s)
		if !o.All {
			break
		}
	}
	return d, nil
}

// CompareTasks says what differs between two tasks of one step, in one run or in two.
func CompareTasks(ctx context.Context, a, b *Task) (*TaskDiff, error) {
	if a.run.Flow != b.run.Flow || a.Step != b.Step {
		return nil, fmt.Errorf("%w: %s and %s are not tasks of one step", ErrPathspec, a.Pathspec(), b.Pathspec())
	}
	c := newComparer(a.run, b.run)
	c.code = true
	d, err := c.task(ctx, a, b)
	if err != nil {
		return nil, err
	}
	d.Inputs, err = c.inputs(ctx, a, b)
	return &d, err
}

// without are the names that others do not have.
func without(names, others []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(others, name) {
			out = append(out, name)
		}
	}
	return out
}

func diffParams(a, b map[string]string) []ParamDiff {
	var out []ParamDiff
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		va, inA := a[name]
		vb, inB := b[name]
		if inA && inB && va == vb {
			continue
		}
		p := ParamDiff{Name: name}
		if inA {
			p.A = &va
		}
		if inB {
			p.B = &vb
		}
		out = append(out, p)
	}
	return out
}

// comparer compares tasks of two runs.
type comparer struct {
	a, b *side
	// code says that the code of a task counts although it is that of its run.
	code   bool
	params map[string]bool
}

// side is one of the runs.
type side struct {
	run *Run
	// last is the record that was read last: the items of a foreach all start from one.
	last  *start
	codes map[string]string
	lists map[artifacts.Digest]*flow.Items
}

// start is the state that a task starts from.
type start struct {
	key   string
	state map[string]artifacts.Entry
	ahead flow.Ahead
}

func newComparer(a, b *Run) *comparer {
	c := &comparer{a: &side{run: a}, b: &side{run: b}, params: map[string]bool{}}
	for _, p := range slices.Concat(a.Plan.Params, b.Plan.Params) {
		c.params[p.Name] = true
	}
	return c
}

// step compares the tasks of a step and keeps the first of those that differ.
func (c *comparer) step(ctx context.Context, name string, keep int, differs map[string]int) (StepDiff, error) {
	out := StepDiff{Step: name}
	sa, err := c.a.run.Step(ctx, name)
	if err != nil {
		return out, err
	}
	sb, err := c.b.run.Step(ctx, name)
	if err != nil {
		return out, err
	}
	for pair, err := range paired(sa.Tasks(ctx), sb.Tasks(ctx)) {
		if err != nil {
			return out, err
		}
		d, err := c.task(ctx, pair[0], pair[1])
		if err != nil {
			return out, err
		}
		d.Untold = d.A == nil && sa.Untold || d.B == nil && sb.Untold
		if join := sb.at; join.i < 0 && join.parent.Kind == flow.KindForeach && d.A != nil && d.B != nil {
			d.Inputs = differs[join.parent.Name]
		}
		switch {
		case d.A == nil:
			out.OnlyB++
		case d.B == nil:
			out.OnlyA++
		case d.Same():
			out.Same++
			continue
		default:
			out.Differ++
		}
		if keep < 0 || len(out.Tasks) < keep {
			out.Tasks = append(out.Tasks, d)
		}
	}
	for _, shape := range sb.at.around {
		differs[shape.Name] = max(differs[shape.Name], out.Differ+out.OnlyA+out.OnlyB)
	}
	return out, nil
}

// paired yields the tasks of two steps by their indexes, in order. One of a pair may be nil, and tasks that did not begin are left out.
func paired(a, b iter.Seq2[*Task, error]) iter.Seq2[[2]*Task, error] {
	return func(yield func([2]*Task, error) bool) {
		nextA, stopA := iter.Pull2(begunTasks(a))
		defer stopA()
		nextB, stopB := iter.Pull2(begunTasks(b))
		defer stopB()
		ta, errA, moreA := nextA()
		tb, errB, moreB := nextB()
		for moreA || moreB {
			if err := errors.Join(errA, errB); err != nil {
				yield([2]*Task{}, err)
				return
			}
			order := -1
			if !moreA {
				order = 1
			} else if moreB {
				order = slices.Compare(ta.Index, tb.Index)
			}
			var pair [2]*Task
			if order <= 0 {
				pair[0] = ta
				ta, errA, moreA = nextA()
			}
			if order >= 0 {
				pair[1] = tb
				tb, errB, moreB = nextB()
			}
			if !yield(pair, nil) {
				return
			}
		}
	}
}

func begunTasks(all iter.Seq2[*Task, error]) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		for t, err := range all {
			if err == nil && !t.begun() {
				continue
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// task compares two tasks, of which one may be nil.
func (c *comparer) task(ctx context.Context, a, b *Task) (TaskDiff, error) {
	d := TaskDiff{A: a, B: b}
	if a == nil || b == nil {
		d.Task = cmp.Or(a, b).Name()
		return d, nil
	}
	d.Task = a.Name()
	if a.Record != nil && b.Record != nil && a.Owner == b.Owner && a.Index.Equal(b.Index) {
		return d, nil // one of them was taken over from the other, or both from a third run
	}
	if err := errors.Join(a.Explain(ctx), b.Explain(ctx)); err != nil {
		return d, err
	}
	d.Failed = a.State != b.State || !SameFailure(a.Failure, b.Failure)
	codeA, err := c.a.codeOf(ctx, a)
	if err != nil {
		return d, err
	}
	codeB, err := c.b.codeOf(ctx, b)
	if err != nil {
		return d, err
	}
	if codeA != codeB && (c.code || c.a.run.Code == c.b.run.Code || codeA != c.a.run.Code || codeB != c.b.run.Code) {
		d.CodeA, d.CodeB = codeA, codeB
	}
	if err := c.input(ctx, &d); err != nil {
		return d, err
	}
	if a.Record == nil || b.Record == nil {
		return d, nil
	}
	set := slices.Concat(a.Record.Changed, b.Record.Changed)
	d.Output = c.artifacts(a.Record.Artifacts, b.Record.Artifacts, func(name string) bool { return slices.Contains(set, name) })
	d.Ahead = DiffAhead(a.Record.Ahead, b.Record.Ahead)
	return d, nil
}

// passing is what differs from one time to the next in messages that say the same: ports of this machine, and addresses in memory.
var passing = regexp.MustCompile(`(127\.0\.0\.1|localhost|\[::1\]):\d+|0x[0-9a-f]{6,}`)

// SameFailure says that two failures have the same class and message, or that there are none. Ports of this machine and addresses in
// memory may differ.
func SameFailure(a, b *policies.Failure) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Class == b.Class && passing.ReplaceAllString(a.Message, "$1") == passing.ReplaceAllString(b.Message, "$1")
}

// artifacts are the entries that differ, in the order of their names.
func (c *comparer) artifacts(a, b map[string]artifacts.Entry, want func(name string) bool) []ArtifactDiff {
	var out []ArtifactDiff
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		ea, inA := a[name]
		eb, inB := b[name]
		if c.params[name] || !want(name) || inA && inB && ea.Same(eb) {
			continue
		}
		d := ArtifactDiff{Name: name}
		if inA {
			d.A = &ea
		}
		if inB {
			d.B = &eb
		}
		out = append(out, d)
	}
	return out
}

// DiffAhead are the shapes about which two tasks decided differently, of those that both decided about.
func DiffAhead(a, b flow.Ahead) []AheadDiff {
	var out []AheadDiff
	for _, shape := range slices.Sorted(maps.Keys(b)) {
		da, ok := a[shape]
		if db := b[shape]; ok && !sameDecision(da, db) {
			out = append(out, AheadDiff{shape, da, db})
		}
	}
	return out
}

func sameDecision(a, b flow.Decision) bool {
	if (a.Items == nil) != (b.Items == nil) || a.Items != nil && *a.Items != *b.Items {
		return false
	}
	return a.Case == b.Case && a.Value == b.Value && a.Again == b.Again
}
