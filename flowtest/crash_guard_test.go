package flowtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// reporter is a test that only notes its failures.
type reporter struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *reporter) Helper()             {}
func (r *reporter) Log(...any)          {}
func (r *reporter) Logf(string, ...any) {}
func (r *reporter) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *reporter) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// apart runs a function that may end its goroutine.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// crashFailures are what EveryCrash tells of a flow, by the names of its subtests, and "" for itself.
func crashFailures(t *testing.T, f *flow.Flow, o CrashOptions) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	outer := &reporter{TB: t}
	apart(func() {
		everyCrash(outer, f, nil, o, func(name string, check func(testing.TB)) {
			r := &reporter{TB: t}
			apart(func() { check(r) })
			if len(r.failures) > 0 {
				all[name] = r.failures
			}
		})
	})
	if len(outer.failures) > 0 {
		all[""] = outer.failures
	}
	return all
}

// payment is the state of a flow that pays once.
type payment struct {
	Paid    int
	Receipt string
	Noted   bool
}

// payFlow pays between two other steps.
func payFlow(pay func(context.Context, *payment) error, o ...flow.Option) *flow.Flow {
	return flow.New("PayFlow",
		flow.Step("prepare", func(context.Context, *payment) error { return nil }),
		flow.Step("pay", func(ctx context.Context, s *payment) error {
			s.Paid = 100
			return pay(ctx, s)
		}, o...),
		flow.Step("note", func(_ context.Context, s *payment) error { s.Noted = true; return nil }),
	)
}

// hooked is a store with one of its methods changed.
type hooked struct {
	driver.Driver
	put func(ctx context.Context, d driver.Driver, key string, body driver.Body, o driver.PutOptions) error
	get func(ctx context.Context, d driver.Driver, key string, offset int64) (io.ReadCloser, error)
}

func (h hooked) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	if h.put == nil {
		return h.Driver.Put(ctx, key, body, o)
	}
	return h.put(ctx, h.Driver, key, body, o)
}

func (h hooked) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if h.get == nil {
		return h.Driver.Get(ctx, key, offset)
	}
	return h.get(ctx, h.Driver, key, offset)
}

// overwriting drops the condition of conditional puts.
func overwriting(d driver.Driver) driver.Driver {
	return hooked{Driver: d, put: func(ctx context.Context, d driver.Driver, key string, body driver.Body, _ driver.PutOptions) error {
		return d.Put(ctx, key, body, driver.PutOptions{})
	}}
}

// blind drops the look at the record of an earlier attempt, which is the first thing that a later one reads.
func blind(d driver.Driver) driver.Driver {
	var mu sync.Mutex
	looked := map[*call]bool{}
	return hooked{Driver: d, get: func(ctx context.Context, d driver.Driver, key string, offset int64) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if c := callOf(ctx); c != nil && !looked[c] && activity.GetInfo(ctx).Attempt > 1 && strings.Contains(key, "/tasks/") {
			looked[c] = true
			return nil, fmt.Errorf("get %q: %w", key, driver.ErrNotFound)
		}
		return d.Get(ctx, key, offset)
	}}
}

// rootless makes a resumed run forget where it comes from, and with it the idempotency keys of its tasks.
func rootless(d driver.Driver) driver.Driver {
	return hooked{Driver: d, put: func(ctx context.Context, d driver.Driver, key string, body driver.Body, o driver.PutOptions) error {
		content, _ := body.Data()
		var run records.Run
		if strings.HasSuffix(key, "/run.json") && json.Unmarshal(content, &run) == nil && run.Root != run.Run {
			content = bytes.ReplaceAll(content, []byte(`"root":"`+run.Root+`"`), []byte(`"root":"`+run.Run+`"`))
			body = driver.Bytes(content)
		}
		return d.Put(ctx, key, body, o)
	}}
}

// Each guard that a run rests on is missed by EveryCrash when it is taken away, at the places where it matters.
func TestEveryCrashMissesEachGuard(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		hook func(driver.Driver) driver.Driver
		pay  func(*Ledger, context.Context, *payment) error
		// where lists the subtests that fail, all others pass; says is what they tell.
		where []string
		says  string
	}{
		{name: "nothing is taken away"},
		{
			name: "the conditional put of a record", hook: overwriting,
			where: []string{"pay/before_run/cut_off", "pay/after_run/cut_off", "pay/after_artifacts/cut_off"},
			says:  "tasks/pay.json was written over",
		},
		{
			name: "the look at the record of an earlier attempt", hook: blind,
			where: []string{"pay/after_record/another_worker"},
			says:  "task pay ran again (attempt 2 of run",
		},
		{
			name: "the root of a resumed run", hook: rootless,
			where: []string{"pay/before_run/resume", "pay/after_run/resume", "pay/after_artifacts/resume"},
			says:  "task pay has another idempotency key in attempt 1",
		},
		{
			name: "the service's memory of keys",
			pay: func(l *Ledger, ctx context.Context, _ *payment) error {
				l.Add(flow.IdempotencyKey(ctx))
				return nil
			},
			where: []string{
				"pay/before_run/cut_off",
				"pay/after_run/another_worker", "pay/after_run/resume", "pay/after_run/cut_off",
				"pay/after_artifacts/another_worker", "pay/after_artifacts/resume", "pay/after_artifacts/cut_off",
			},
			says: "happened 2 times",
		},
		{
			name: "the step's use of the key",
			pay: func(l *Ledger, ctx context.Context, _ *payment) error {
				i := flow.Current(ctx)
				l.Once(fmt.Sprint(i.Run, i.Task, i.Attempt))
				return nil
			},
			where: []string{
				"pay/before_run/cut_off",
				"pay/after_run/another_worker", "pay/after_run/resume", "pay/after_run/cut_off",
				"pay/after_artifacts/another_worker", "pay/after_artifacts/resume", "pay/after_artifacts/cut_off",
			},
			says: "there are side effects with 2 keys, and with 1 when nothing disturbs the run",
		},
		{
			name: "the service's answer to a replay",
			pay: func(l *Ledger, ctx context.Context, s *payment) error {
				if s.Receipt = "paid"; !l.Once(flow.IdempotencyKey(ctx)) {
					s.Receipt = "paid already"
				}
				return nil
			},
			where: []string{
				"pay/after_run/another_worker", "pay/after_run/resume", "pay/after_run/cut_off",
				"pay/after_artifacts/another_worker", "pay/after_artifacts/resume", "pay/after_artifacts/cut_off",
			},
			says: `artifact Receipt is "paid already", and "paid" when nothing disturbs the run`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var l Ledger
			pay := test.pay
			if pay == nil {
				pay = func(l *Ledger, ctx context.Context, _ *payment) error {
					l.Once(flow.IdempotencyKey(ctx))
					return nil
				}
			}
			f := payFlow(func(ctx context.Context, s *payment) error { return pay(&l, ctx, s) })
			found := crashFailures(t, f, CrashOptions{Before: l.Reset, Effects: l.Counts, hook: test.hook})
			for _, place := range test.where {
				require.Contains(t, strings.Join(found[place], "\n"), test.says, "%v", found)
				point, way := place[:strings.LastIndex(place, "/")], place[strings.LastIndex(place, "/")+1:]
				require.True(t, strings.HasPrefix(found[place][0], "killed at "+point+", then "+way+": "), found[place][0])
			}
			for place, said := range found {
				if strings.HasPrefix(place, "pay/") || place == "" {
					require.Contains(t, test.where, place, "%v", said)
				}
			}
			if test.hook == nil {
				require.Len(t, found, len(test.where), "%v", found)
			}
		})
	}
}

func TestEveryCrashNeedsAFlowThatCompletes(t *testing.T) {
	t.Parallel()
	f := payFlow(func(context.Context, *payment) error { return errors.New("no money") })
	require.Contains(t, fmt.Sprint(crashFailures(t, f, CrashOptions{})[""]), `flow "PayFlow" does not complete undisturbed: it failed`)
	f = payFlow(func(context.Context, *payment) error { return nil })
	require.Contains(t, fmt.Sprint(crashFailures(t, f, CrashOptions{Ignore: []string{"Paid", "Receit"}})[""]),
		`the final state has no artifact "Receit" (it has Noted, Paid, Receipt)`)
}

// What is said to differ may differ, and a flow that takes another way each time is told apart from one that loses something.
func TestEveryCrashIgnores(t *testing.T) {
	t.Parallel()
	f := payFlow(func(_ context.Context, s *payment) error {
		s.Receipt = time.Now().Format(time.RFC3339Nano)
		return nil
	})
	require.Empty(t, crashFailures(t, f, CrashOptions{Ignore: []string{"Receipt"}}))

	calls := 0
	f = payFlow(func(context.Context, *payment) error {
		if calls++; calls == 1 {
			return flow.Transient(errors.New("busy"))
		}
		return nil
	}, policies.Retry{MaximumAttempts: 2})
	require.Empty(t, crashFailures(t, f, CrashOptions{Before: func() { calls = 0 }}))
	calls = 0
	found := crashFailures(t, f, CrashOptions{}) // it is busy in the undisturbed run alone
	require.NotEmpty(t, found)
	for place, said := range found {
		require.Contains(t, place, "pay/", "%v", said)
		require.Contains(t, fmt.Sprint(said), "the run did not come there (does the flow take another way each time?")
	}
}

func TestSampleTakesEachKindFirst(t *testing.T) {
	t.Parallel()
	var all []event
	for i := range 50 {
		for _, p := range points[:4] {
			all = append(all, event{step: "fit", index: fmt.Sprint(i), attempt: 1, point: p})
		}
	}
	all = append(all, event{step: "end", attempt: 1, point: activities.PointBegin}, event{step: "end", attempt: 1, point: activities.PointRan})
	require.Equal(t, all, sample(all, 0))
	require.Equal(t, all, sample(all, 1000))
	some := sample(all, 6)
	require.Equal(t, some, sample(all, 6))
	kinds, indexes := map[string]bool{}, map[string]bool{}
	for _, e := range some {
		kinds[e.step+string(e.point)] = true
		indexes[e.index] = true
	}
	require.Len(t, kinds, 6)
	require.Greater(t, len(indexes), 2, "not all of one task")
	require.Len(t, sample(all, 100), 100)
}
