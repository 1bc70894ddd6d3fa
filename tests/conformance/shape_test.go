package conformance

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/runs"
)

// once makes functions of shapes panic on their first call.
type once struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (o *once) panics(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		o.seen = map[string]bool{}
	}
	if !o.seen[what] {
		o.seen[what] = true
		panic(what + " is not ready")
	}
}

// The functions of the shapes are author's code like the steps: a panic or an error in one is a failure of the attempt that calls
// it, and tried again with it.
func TestShapeFunctionsAreTriedAgain(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var o once
		p := &plot{policies: func(string, bool, policies.CatchPolicy) []flow.Option { return []flow.Option{fixed(4)} }}
		f := flow.New("Panics",
			p.step("start", nil),
			p.join(flow.Foreach("items", func(*state) []string { o.panics("items"); return words("a b c") },
				func(s *state, x string) {
					if x == "b" {
						o.panics("bind")
					}
					s.X = x
				},
				p.step("body", func(s *state) { s.Made = s.X }),
				flow.Switch("switch", func(s *state) string { o.panics("selector " + s.X); return s.X },
					flow.Case("b", p.step("special", func(s *state) { s.Made += "!" })),
				).Else(),
			), "join", made),
			flow.Loop("loop", func(s *state) bool { o.panics(fmt.Sprintf("condition %d", s.Count)); return s.Count < 2 }, p.step("turn", countUp)),
			p.join(flow.ForeachStream("stream", func(context.Context, *state) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) {
					o.mu.Lock()
					again := o.seen["stream"]
					o.seen["stream"] = true
					o.mu.Unlock()
					if yield("x", nil) && !again {
						yield("", errors.New("the listing broke off"))
						return
					}
					yield("y", nil)
				}
			}, bindX, p.step("last", func(s *state) { s.Made = s.X })), "end", made),
		)
		run := w.run(t, f, options{})
		s := final[state](t, run, f)
		require.Equal(t, trail(words("start body[0] body[1] special[1] body[2] join turn[0] turn[1] last[0] last[1] end")), s.Trail)
		require.Equal(t, words("a b! c x y"), s.Results)
		for task, want := range map[string][]string{
			"start":      {"items is not ready"},
			"body[0]":    {"selector a is not ready"},
			"body[1]":    {"bind is not ready", "selector b is not ready"},
			"special[1]": nil,
			"join":       {"condition 0 is not ready"},
			"turn[0]":    {"condition 1 is not ready"},
			"turn[1]":    {"condition 2 is not ready", "the listing broke off"},
		} {
			all := attempts(t, run, task)
			require.Len(t, all, len(want)+1, task)
			for i, message := range want {
				require.Contains(t, all[i].Failure.Message, message, task)
			}
		}
	})
}

// The same in a batch: the item is tried again, not the batch.
func TestShapeFunctionsInBatches(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var o once
		p := &plot{policies: func(string, bool, policies.CatchPolicy) []flow.Option { return []flow.Option{fixed(4)} }}
		f := flow.New("BatchPanics",
			p.join(flow.Foreach("items", over("abcdef"),
				func(s *state, x string) {
					if x == "b" {
						o.panics("bind")
					}
					s.X = x
				},
				p.step("body", func(s *state) { s.Made = s.X }),
				flow.Switch("switch", func(s *state) string {
					if s.X == "d" {
						o.panics("selector")
					}
					return s.X
				}, flow.Case("b", p.step("special", func(s *state) { s.Made += "!" }))).Else(),
			).With(flow.Fan{Batch: 3}), "join", made),
		)
		run := w.run(t, f, options{})
		s := final[state](t, run, f)
		require.Equal(t, words("body[0] body[1] special[1] body[2] body[3] body[4] body[5] join"), s.Trail)
		require.Equal(t, words("a b! c d e f"), s.Results)
		begun, _ := p.did(run.Run.Run)
		for _, other := range words("body[0] body[2] body[4] body[5]") {
			require.Equal(t, 1, begun[other], other)
		}
		require.Equal(t, 2, begun["body[3]"])
	})
}

// A shape with no step before it is decided by a task of its own, which has one attempt. Its failure has the shape's name, and a
// resume asks again.
func TestFirstShapeFails(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var o once
		p := &plot{}
		f := flow.New("FirstShape",
			p.join(flow.Foreach("items", over("abc"), bindX,
				flow.Switch("kind", func(s *state) string {
					if s.X == "b" {
						o.panics("kind of b")
					}
					return s.X
				}, flow.Case("a", p.step("first", nil))).Else(p.step("other", nil)),
			), "join", nil),
		)
		origin := failed(t, w.run(t, f, options{}))
		require.Equal(t, "kind[1]", origin.Failure.Task)
		require.Equal(t, policies.Bug, origin.Failure.Class)
		require.Contains(t, origin.Failure.Message, "kind of b is not ready")
		_, ended := p.did(origin.Run.Run)
		run := w.resume(t, f, origin, options{})
		g := graph{trail: words("first[0] other[1] other[2] join")}
		g.undisturbed(t, run, f)
		again, _ := p.did(run.Run.Run)
		require.Equal(t, times(1, g.left(t, f, ended)), again)
	})
}

// A foreach that stops at its first failure, in an item of one that tolerates some: the item fails, the others do not.
func TestToleranceOfNestedForeach(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var failures []string
		p := &plot{}
		inner := flow.Foreach("y", over("de"), bindY, p.step("inner", func(s *state) { s.Made = s.X + s.Y })).With(flow.Fan{MaxParallel: 1})
		outer := flow.Foreach("x", over("abc"), bindX, p.join(inner, "join_y", made), p.step("then", nil)).With(flow.Fan{Tolerate: flow.Count(1)})
		f := flow.New("NestedTolerance",
			p.step("start", nil),
			outer.Join("join_x", func(_ context.Context, s *state, in flow.Inputs[state]) error {
				for _, input := range in.All() {
					s.Results = append(s.Results, input.Results...)
				}
				for i, failure := range in.Failures() {
					failures = append(failures, fmt.Sprintf("%d: %s", i, failure.Task))
				}
				return nil
			}),
			p.step("end", nil),
		)
		p.failing(func(i flow.Info) bool { return i.Task == "inner[1,0]" })
		run := completed(t, w.run(t, f, options{}))
		require.Equal(t, words("ad ae cd ce"), final[state](t, run, f).Results)
		require.Equal(t, []string{"1: inner[1,0]"}, failures)
		begun, _ := p.did(run.Run.Run)
		require.Equal(t, times(1, words("start inner[0,0] inner[0,1] join_y[0] then[0] inner[1,0] inner[2,0] inner[2,1] join_y[2] then[2] end")), begun)
		require.Equal(t, runs.Failed, task(t, run, "inner[1,0]").State)
	})
}

// Many arms, and arms of several steps that end at different times: each join sees its own.
func TestManyArms(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		const n = 40
		var arms []flow.Node[state]
		p := &plot{}
		want := words("start")
		for i := range n {
			arm := flow.Seq(p.step(fmt.Sprintf("arm%d", i), nil), flow.Loop(fmt.Sprintf("loop%d", i), func(s *state) bool { return s.Count < i%3 },
				p.step(fmt.Sprintf("turn%d", i), countUp)))
			arms = append(arms, arm)
			want = append(want, fmt.Sprintf("arm%d", i))
			want = append(want, each(i%3, fmt.Sprintf("turn%d", i))...)
		}
		f := flow.New("ManyArms", p.step("start", nil), p.join(flow.Branch("arms", arms...), "join", nil))
		run := w.run(t, f, options{})
		require.Equal(t, append(want, "join"), final[state](t, run, f).Trail)
	})
}
