package examples

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// The flows of this file stand in docs/shapes.md, which says what the tests show.

// Import is the state of ImportFlow.
type Import struct {
	Path string `param:"path" help:"a file of lines"`
	Line string
	Size int
	Kind string
	Sum  int
}

// lines reads a file as the items are written down.
func lines(_ context.Context, s *Import) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := os.Open(s.Path)
		if err != nil {
			yield("", err)
			return
		}
		defer f.Close()
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			if !yield(scan.Text(), nil) {
				return
			}
		}
		if err := scan.Err(); err != nil {
			yield("", err)
		}
	}
}

func (s *Import) setLine(line string) { s.Line = line }

func (s *Import) kind() string { return s.Kind }

func nothing(context.Context, *Import) error { return nil }

func measure(_ context.Context, s *Import) error {
	s.Size = len(s.Line)
	return nil
}

func sum(_ context.Context, s *Import, in flow.Inputs[Import]) error {
	for _, item := range in.All() {
		s.Sum += item.Size
	}
	s.Kind, _, _ = strings.Cut(filepath.Base(s.Path), ".")
	return nil
}

// ImportFlow streams its items, and knows three kinds of files.
func ImportFlow() *flow.Flow {
	return flow.New("ImportFlow",
		flow.Step("open", nothing, policies.Retry{MaximumAttempts: 3}),
		flow.ForeachStream("lines", lines, (*Import).setLine,
			flow.Step("measure", measure),
		).Join("sum", sum),
		flow.Switch("kind", (*Import).kind,
			flow.Case("orders", flow.Step("book", nothing), flow.Step("confirm", nothing)),
			flow.Case("returns", flow.Step("refund", nothing)),
			flow.Case[Import]("notes"), // nothing to do
		).OrFail(),
	)
}

func TestImportFlow(t *testing.T) {
	t.Parallel()
	f := ImportFlow()
	run := func(name string) *runs.Run {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte("one\nthree\n"), 0o600))
		return flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"path": path}})
	}
	for name, last := range map[string]string{"orders.txt": "confirm", "returns.txt": "refund", "notes.txt": "sum"} {
		r := run(name)
		require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
		task, err := r.Last(t.Context())
		require.NoError(t, err)
		require.Equal(t, last, task.Step)
		n, err := runs.Load[int](t.Context(), task, "Sum")
		require.NoError(t, err)
		require.Equal(t, len("one")+len("three"), n)
	}

	r := run("other.txt")
	require.Equal(t, "sum", r.Failure.Task, "the step before the switch fails")
	require.Equal(t, policies.Permanent, r.Failure.Class)
	require.Contains(t, r.Failure.Message, `value "other" is none of its cases`)

	r = flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"path": filepath.Join(t.TempDir(), "missing")}})
	require.Equal(t, "open", r.Failure.Task, "the step before the foreach lists its items")
	require.Equal(t, 3, r.Failure.Attempt)
}

// Fold is the state of FoldFlow.
type Fold struct {
	Fold, Rounds int
	Round        int
	Model        int
	Trail        []string
}

func (s *Fold) folds() []int     { return []int{0, 1} }
func (s *Fold) setFold(i int)    { s.Fold = i }
func (s *Fold) models() []int    { return []int{1, 2, 3} }
func (s *Fold) setModel(m int)   { s.Model = m }
func (s *Fold) moreRounds() bool { return s.Round < s.Rounds }

func prepare(_ context.Context, s *Fold) error { s.Rounds = 2; return nil }

func train(ctx context.Context, s *Fold) error {
	s.Trail = append(s.Trail, flow.Current(ctx).Task)
	return nil
}

func nextRound(ctx context.Context, s *Fold, in flow.Inputs[Fold]) error {
	s.Round++
	return gather(ctx, s, in)
}

func gather(ctx context.Context, s *Fold, in flow.Inputs[Fold]) error {
	s.Trail = nil
	for _, item := range in.All() {
		s.Trail = append(s.Trail, item.Trail...)
	}
	s.Trail = append(s.Trail, flow.Current(ctx).Task)
	return nil
}

// FoldFlow has a foreach in a loop in a foreach.
func FoldFlow() *flow.Flow {
	return flow.New("FoldFlow",
		flow.Step("prepare", prepare),
		flow.Foreach("folds", (*Fold).folds, (*Fold).setFold,
			flow.Step("split", train), // split[fold]
			flow.Loop("rounds", (*Fold).moreRounds,
				flow.Foreach("models", (*Fold).models, (*Fold).setModel,
					flow.Step("train", train), // train[fold,turn,model]
				).Join("round", nextRound), // round[fold,turn]
			),
		).Join("compare", gather), // compare
	)
}

func TestFoldFlow(t *testing.T) {
	t.Parallel()
	r := flowtest.Run(t, FoldFlow(), flowtest.Options{})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	for name, tasks := range map[string]int{"split": 2, "train": 2 * 2 * 3, "round": 2 * 2, "compare": 1} {
		s, err := r.Step(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, tasks, s.Completed, name)
	}
	task, err := r.Last(t.Context())
	require.NoError(t, err)
	trail, err := runs.Load[[]string](t.Context(), task, "Trail")
	require.NoError(t, err)
	require.Contains(t, trail, "round[1,1]")
	require.Equal(t, "compare", trail[len(trail)-1])
	for _, name := range []string{"train[1,0,2]", "train[0,1,0]", "round[1,0]", "split[1]"} {
		_, err := r.Task(t.Context(), name)
		require.NoError(t, err)
	}
}

// Measures are the state of a merge.
type Measures struct {
	Rows   int
	Mean   float64
	Spread float64
	Took   float64
}

func combine(_ context.Context, s *Measures, in flow.Inputs[Measures]) error {
	s.Took = in.Branch("mean").Took + in.Branch("spread").Took // both have set it: the join decides
	return in.Merge(s)
}

func TestCombine(t *testing.T) {
	t.Parallel()
	split := Measures{Rows: 3}
	in := flow.NewBranches(&split, []string{"mean", "spread"},
		&Measures{Rows: 3, Mean: 2, Took: 1}, &Measures{Rows: 3, Spread: 0.5, Took: 2})
	s := split
	require.NoError(t, combine(t.Context(), &s, in))
	require.Equal(t, Measures{Rows: 3, Mean: 2, Spread: 0.5, Took: 3}, s)

	s = split
	require.ErrorContains(t, in.Merge(&s), `inputs do not agree on "Took" ("mean" and "spread")`)
	require.Equal(t, split, s, "nothing is set")
	require.NoError(t, in.Merge(&s, flow.Exclude("Took")))
	require.Equal(t, Measures{Rows: 3, Mean: 2, Spread: 0.5}, s)
}

// InferFlow has a limit that other flows may share.
func InferFlow(infer func(context.Context, *Fold) error) *flow.Flow {
	return flow.New("InferFlow",
		flow.Foreach("models", func(*Fold) []int { return make([]int, 20) }, (*Fold).setModel,
			flow.Step("infer", infer, policies.Limit{Key: "gpu-box", Max: 4}),
		).Join("gather", gather),
	)
}

func TestInferFlow(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	r := flowtest.Run(t, InferFlow(func(context.Context, *Fold) error {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		return nil
	}), flowtest.Options{})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	require.LessOrEqual(t, most.Load(), int32(4))
}

// The first run fails at one item; the second runs it alone.
func TestResumeRunsWhatIsLeft(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	var called atomic.Int32
	path := filepath.Join(t.TempDir(), "notes.txt")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("line\n", 9)+"long line\n"), 0o600))
	f := flow.New("ResumeFlow",
		flow.ForeachStream("lines", lines, (*Import).setLine,
			flow.Step("measure", func(_ context.Context, s *Import) error {
				called.Add(1)
				if broken.Load() && s.Line == "long line" {
					return errors.New("the line is too long")
				}
				return nil
			}),
		).With(flow.Fan{OnFailure: flow.FinishAll}).Join("sum", sum),
	)
	first := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"path": path}})
	require.Equal(t, "measure[9]", first.Failure.Task)
	broken.Store(false)
	called.Store(0)

	second := flowtest.Resume(t, f, first, flowtest.Options{})
	require.Equal(t, records.StatusCompleted, second.Status)
	measured, err := second.Step(t.Context(), "measure")
	require.NoError(t, err)
	require.Equal(t, 10, measured.Completed)
	require.Equal(t, 9, measured.Reused)
	require.EqualValues(t, 1, called.Load())
	require.Empty(t, failures(t.Context(), second, "measure"))
	require.Equal(t, []string{"measure[9]: the line is too long"}, failures(t.Context(), first, "measure"))
}

func failures(ctx context.Context, run *runs.Run, name string) []string {
	step, err := run.Step(ctx, name)
	if err != nil {
		return []string{err.Error()}
	}
	var all []string
	for task, err := range step.Failures(ctx) {
		if err == nil {
			err = task.Explain(ctx)
		}
		if err != nil {
			return append(all, err.Error())
		}
		all = append(all, fmt.Sprintf("%s: %s", task.Name(), task.Failure.Message))
	}
	return all
}
