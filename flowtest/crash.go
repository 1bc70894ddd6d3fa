package flowtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// CrashOptions are the choices of [EveryCrash]. The zero value is ready.
type CrashOptions struct {
	// Ignore names artifacts that may differ from those of the undisturbed run, such as one that holds the time or the number
	// of an attempt.
	Ignore []string
	// Before is called before the undisturbed run and before each run that is disturbed, to set fakes back to their start.
	Before func()
	// Effects returns how often each side effect happened since Before was called, by the idempotency key that it was asked
	// for with; [Ledger.Counts] is one. After each run no count may be above 1, and there must be as many keys as after the
	// undisturbed run.
	Effects func() map[string]int
	// Sample is how many crash points are tried at most, chosen the same each time so that every kind of them comes first.
	// Defaults to all.
	Sample int
	// Limits bound the workflows. Defaults to those of a real run.
	Limits *workflows.Limits

	// hook changes the store, for this package's own tests.
	hook func(driver.Driver) driver.Driver
}

// EveryCrash runs f once undisturbed, and then again and again: each time its worker is killed at another place, and the run
// must come to the same end all the same. At most one CrashOptions may be given.
//
// The places are, for every attempt of every task and of every catch function:
//
//	before_run        before the function is called
//	after_checkpoint  after it kept a checkpoint, the first, the second and so on
//	after_run         after it returned, with what it did to the outside done, and nothing written
//	after_artifacts   after what it set is written, before the record is
//	after_record      after the record is written, before the server knows
//	after_ledger      after the failure of an attempt is written, before the server knows
//
// In a batch they are those of every item and, as after_record and after_ledger, of the batch. From that place on nothing that
// the worker does has an effect, as after kill -9. What comes then is tried in all its forms:
//
//	another_worker  the run goes on; another worker takes the attempts over that were lost
//	resume          Temporal forgot everything; a new run resumes what the store has
//	cut_off         the worker lives, but the server has given the attempt up; another one finishes the task, and then the
//	                first one goes on from where it was (not after the attempt's last write)
//
// Each is a subtest, "<task>/<place>/<form>". It fails if the run does not complete; if an artifact of the final state has
// another digest than in the undisturbed run; if a task has no record, ended otherwise or has two; if the function of a task that
// has a record is called again; if a record is written over; if a task's idempotency key changes; and if a registered side effect
// happened twice, or not at all. The test's log says which places there are and which were tried. How far the tasks of an item
// came whose failure was tolerated is not compared: what runs beside a task that fails is another matter each time.
//
// The flow must complete with these params when nothing disturbs it, and must take the same way each time: chance and the
// state of fakes are set back by Before.
func EveryCrash(t *testing.T, f *flow.Flow, params map[string]string, options ...CrashOptions) {
	t.Helper()
	var o CrashOptions
	switch len(options) {
	case 0:
	case 1:
		o = options[0]
	default:
		t.Fatalf("EveryCrash takes one CrashOptions, not %d", len(options))
	}
	everyCrash(t, f, params, o, func(name string, check func(testing.TB)) {
		t.Run(name, func(t *testing.T) { check(t) })
	})
}

func everyCrash(t testing.TB, f *flow.Flow, params map[string]string, o CrashOptions, sub func(string, func(testing.TB))) {
	t.Helper()
	calm := &lineage{flow: f, options: o, params: params, workers: newWorkers(f, nil, o.hook)}
	calm.run(t)
	calm.workers.close()
	if calm.last.Status != records.StatusCompleted {
		t.Fatalf("flow %q does not complete undisturbed: it %s: %v (choose params with which it does)", f.Name(), calm.last.Status, calm.last.Failure)
	}
	calm.look(t)
	for _, name := range o.Ignore {
		if _, ok := calm.artifacts[name]; !ok {
			t.Fatalf("CrashOptions.Ignore: the final state has no artifact %q (it has %s)", name, strings.Join(slices.Sorted(maps.Keys(calm.artifacts)), ", "))
		}
	}
	if len(calm.workers.watch.broken) > 0 {
		t.Fatalf("undisturbed: %s", strings.Join(calm.workers.watch.broken, "; "))
	}

	all := calm.workers.watch.sorted()
	chosen := sample(all, o.Sample)
	t.Logf("%d crash points of %d tasks and items, %d of them tried", len(all), len(calm.outcomes), len(chosen))
	for _, e := range all {
		if slices.Contains(chosen, e) {
			t.Log(e)
		} else {
			t.Log(e, "(not tried)")
		}
	}
	for _, e := range chosen {
		for _, way := range []way{another, resume, cutOff} {
			if way == cutOff && (e.point == activities.PointRecord || e.point == activities.PointNoted) {
				continue
			}
			sub(e.String()+"/"+string(way), func(t testing.TB) {
				t.Helper()
				disturbed := &lineage{flow: f, options: o, params: params, workers: newWorkers(f, &crash{e, way}, o.hook)}
				defer disturbed.workers.close()
				disturbed.run(t)
				disturbed.compare(t, calm)
			})
		}
	}
}

// sorted are the events of a run in order.
func (w *watch) sorted() []event {
	steps := w.plan.Names()
	return slices.SortedFunc(maps.Keys(w.events), func(a, b event) int { return a.compare(b, steps) })
}

// sample chooses events: by chance, which is the same each time, but one of each step's points before a second one of any.
func sample(all []event, most int) []event {
	if most <= 0 || most >= len(all) {
		return all
	}
	shuffled := slices.Clone(all)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	type kind struct {
		step         string
		point        activities.Point
		catch, batch bool
	}
	turn, turns := map[event]int{}, map[kind]int{}
	for _, e := range shuffled {
		k := kind{e.step, e.point, e.catch, e.batch}
		turn[e] = turns[k]
		turns[k]++
	}
	slices.SortStableFunc(shuffled, func(a, b event) int { return turn[a] - turn[b] })
	return slices.DeleteFunc(slices.Clone(all), func(e event) bool { return !slices.Contains(shuffled[:most], e) })
}

// lineage is a run of the flow and, if it had to be, the one that resumed it.
type lineage struct {
	flow    *flow.Flow
	options CrashOptions
	params  map[string]string
	workers *workers

	last      *runs.Run
	artifacts map[string]artifacts.Entry
	outcomes  map[string]records.Outcome
	effects   map[string]int
}

// run runs the flow to its end, through the crash.
func (l *lineage) run(t testing.TB) {
	t.Helper()
	if l.options.Before != nil {
		l.options.Before()
	}
	o := Options{Params: l.params, Store: l.workers.store(), Limits: l.options.Limits, workers: l.workers}
	l.last = Run(t, l.flow, o)
	if l.workers.forgot() {
		o.Params = nil // those of the origin stay
		l.last = Resume(t, l.flow, l.last, o)
	}
	l.workers.comeBack()
}

// look reads what the run came to.
func (l *lineage) look(t testing.TB) {
	t.Helper()
	last, err := l.last.Last(t.Context())
	if err != nil {
		t.Fatalf("read the last record of run %s: %v", l.last.Pathspec(), err)
	}
	l.artifacts = last.Record.Artifacts
	l.outcomes = l.workers.watch.outcomes()
	if l.options.Effects != nil {
		l.effects = maps.Clone(l.options.Effects())
	}
}

// compare fails the test if the run came to another end than the undisturbed one, or on a way that it must not take.
func (l *lineage) compare(t testing.TB, calm *lineage) {
	t.Helper()
	at, way := l.workers.crash.at, l.workers.crash.way
	fault := func(format string, args ...any) {
		t.Helper()
		t.Errorf("killed at %s, then %s: %s", at, way, fmt.Sprintf(format, args...))
	}
	if x, _ := flow.ParseIndex(at.index); !l.workers.happened && !calm.workers.watch.maybe(at.step, x, at.batch) {
		fault("the run did not come there (does the flow take another way each time? set chance and fakes back with CrashOptions.Before)")
		return
	}
	for _, what := range l.workers.watch.broken {
		fault("%s", what)
	}
	if l.last.Status != records.StatusCompleted {
		fault("run %s: %s: %v", l.last.Run.Run, l.last.Status, l.last.Failure)
		return
	}
	l.look(t)
	l.compareState(t, calm, fault)
	for _, name := range union(calm.outcomes, l.outcomes) {
		switch want, got := calm.outcomes[name], l.outcomes[name]; {
		case got == "":
			fault("%s has no record", name)
		case want == "":
			fault("%s has a record and has none when nothing disturbs the run", name)
		case got != want:
			fault("%s is %s, and %s when nothing disturbs the run", name, got, want)
		}
	}
	if l.options.Effects == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(l.effects)) {
		if n := l.effects[key]; n > 1 {
			fault("the side effect with key %q happened %d times", key, n)
		}
	}
	if len(l.effects) != len(calm.effects) && len(calm.workers.watch.failed) == 0 {
		fault("there are side effects with %d keys, and with %d when nothing disturbs the run", len(l.effects), len(calm.effects))
	}
}

// compareState tells of the first artifact that differs.
func (l *lineage) compareState(t testing.TB, calm *lineage, fault func(string, ...any)) {
	t.Helper()
	differ, first := 0, ""
	for _, name := range union(calm.artifacts, l.artifacts) {
		want, had := calm.artifacts[name]
		got, has := l.artifacts[name]
		if slices.Contains(l.options.Ignore, name) || had == has && want.Digest == got.Digest {
			continue
		}
		if differ++; differ == 1 {
			first = fmt.Sprintf("artifact %s is %s, and %s when nothing disturbs the run", name, l.preview(t.Context(), got, has), calm.preview(t.Context(), want, had))
		}
	}
	switch {
	case differ == 1:
		fault("%s", first)
	case differ > 1:
		fault("%s (%d more differ)", first, differ-1)
	}
}

// preview shows an artifact.
func (l *lineage) preview(ctx context.Context, e artifacts.Entry, has bool) string {
	const most = 200
	if !has {
		return "not set"
	}
	content := e.Inline
	if content == nil && e.Size <= 1<<20 {
		if b, err := l.workers.store().Content(ctx, e); err == nil {
			content = b
		}
	}
	return artifacts.Preview(e, content, most)
}

// union are the keys of two maps, sorted.
func union[V any](a, b map[string]V) []string {
	keys := maps.Clone(a)
	if keys == nil {
		keys = map[string]V{}
	}
	maps.Copy(keys, b)
	return slices.Sorted(maps.Keys(keys))
}
