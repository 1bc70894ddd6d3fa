package tests

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

// process is what a worker of its own would know of a dependency.
func process(r *rig, name string, d policies.Dependency) *guard.Dependency {
	return processWith(activities.NewSharer(r.temporal), name, d)
}

func processWith(s guard.Sharer, name string, d policies.Dependency) *guard.Dependency {
	return guard.New(guard.Options{Sharer: s, Worker: name}).Dependency(d)
}

// timed notes that an answer took long. A process that would have to wait for more than 300 ms goes by what itself has seen.
type timed struct {
	guard.Sharer
	slow atomic.Bool
}

func (s *timed) Share(ctx context.Context, r guard.Report) (guard.Answer, error) {
	began := time.Now()
	a, err := s.Sharer.Share(ctx, r)
	if err != nil || time.Since(began) > 150*time.Millisecond {
		s.slow.Store(true)
	}
	return a, err
}

var unavailable = &policies.Failure{Class: policies.Transient, Message: "503"}

// service is one that can be away.
type service struct {
	down  atomic.Bool
	mu    sync.Mutex
	calls []time.Time
}

// call calls the service as often as it may be called, every interval, until the context ends.
func (s *service) call(ctx context.Context, d *guard.Dependency, every time.Duration) {
	for tick := time.NewTicker(every); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		call, err := d.Begin(false)
		if err != nil {
			continue
		}
		s.mu.Lock()
		s.calls = append(s.calls, time.Now())
		s.mu.Unlock()
		if s.down.Load() {
			call.End(unavailable)
		} else {
			call.End(nil)
		}
	}
}

func (s *service) since(t time.Time) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, at := range s.calls {
		if at.After(t) {
			return append([]time.Time(nil), s.calls[i:]...)
		}
	}
	return nil
}

// Two workers call a service that goes away for a while. One that the other has told does not call it, and of both only one at
// a time looks whether it is back.
func TestWorkersShareABreaker(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	d := policies.Dependency{Name: limitKey(t), Breaker: policies.Breaker{Failures: 5, Cooldown: 2 * time.Second}}
	sharer := &timed{Sharer: activities.NewSharer(r.temporal)}
	a, b := processWith(sharer, "a", d), processWith(sharer, "b", d)
	var s service
	s.down.Store(true)
	for range 5 {
		call, err := a.Begin(false)
		require.NoError(t, err)
		call.End(unavailable)
	}
	_, err := a.Begin(false)
	require.Error(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for _, d := range []*guard.Dependency{a, b} {
		wg.Go(func() { s.call(ctx, d, 20*time.Millisecond) })
	}
	// The first call of the other worker asks before it is made.
	eventually(t, "both were refused", func() bool {
		v, err := r.client.Dependency(t.Context(), d.Name)
		return err == nil && len(v.Workers) == 2 && v.Breaker.Held > 0
	})
	open := time.Now()
	sharer.slow.Store(false)
	time.Sleep(7 * time.Second)
	calls := s.since(open)
	t.Logf("%d calls in %s of outage, slow answers: %t", len(calls), time.Since(open), sharer.slow.Load())
	require.NotEmpty(t, calls)
	if sharer.slow.Load() { // then both may probe, each for itself
		calls = nil
	}
	for i := 1; i < len(calls); i++ {
		require.Greater(t, calls[i].Sub(calls[i-1]), 1500*time.Millisecond, "one probe for both in a cooldown")
	}
	s.down.Store(false)
	back := time.Now()
	eventually(t, "both call it again", func() bool { return len(s.since(back)) > 20 })
	t.Logf("back after %s", s.since(back)[1].Sub(back))
	v, err := r.client.Dependency(t.Context(), d.Name)
	require.NoError(t, err)
	require.Equal(t, guard.Closed, v.State)
	stop()
	wg.Wait()
	replay(t, "dependency", r.historyOf(v.WorkflowID))
}

// A worker that is killed while it probes leaves the place to another one.
func TestProbeOfAWorkerThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	d := policies.Dependency{Name: limitKey(t), Breaker: policies.Breaker{Failures: 1, Cooldown: time.Second}}
	a, b := process(r, "a", d), process(r, "b", d)
	call, err := a.Begin(false)
	require.NoError(t, err)
	call.End(unavailable)
	var began time.Time
	eventually(t, "it probes, as everybody can see", func() bool { // not at once if an answer comes too late
		now := time.Now()
		if _, err := a.Begin(false); err == nil { // and is never heard of again
			began = now
		}
		v, err := r.client.Dependency(t.Context(), d.Name)
		return err == nil && v.State == guard.HalfOpen && strings.HasPrefix(v.Probe, "a#") && !began.IsZero()
	})
	eventually(t, "the other hears of it", func() bool {
		call, err := b.Begin(false)
		call.End(nil)
		return err != nil
	})
	eventually(t, "the other probes", func() bool {
		call, err := b.Begin(false)
		call.End(nil)
		return err == nil
	})
	require.Greater(t, time.Since(began), 8*time.Second)
}

func TestResetDependency(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	d := policies.Dependency{Name: limitKey(t), Breaker: policies.Breaker{Failures: 1, Cooldown: time.Hour}, Budget: policies.Budget{Percent: 10, Minimum: 1}}
	_, err := r.client.ResetDependency(t.Context(), d.Name)
	require.ErrorIs(t, err, runs.ErrNotFound)
	sharer := &timed{Sharer: activities.NewSharer(r.temporal)}
	a := processWith(sharer, "a", d)
	call, err := a.Begin(false)
	require.NoError(t, err)
	require.NoError(t, a.AllowRetry())
	if err = a.AllowRetry(); err == nil && sharer.slow.Load() { // what was lent for the first one came too late for it
		err = a.AllowRetry()
	}
	require.Error(t, err)
	require.Equal(t, policies.OverBudget, policies.Classify(err).Class)
	call.End(unavailable)
	_, err = a.Begin(false)
	require.Error(t, err)
	eventually(t, "it is open", func() bool {
		v, err := r.client.Dependency(t.Context(), d.Name)
		return err == nil && v.State == guard.Opened
	})
	v, err := r.client.ResetDependency(t.Context(), d.Name)
	require.NoError(t, err)
	require.Equal(t, guard.Closed, v.State)
	require.Equal(t, 1, v.Left)
	eventually(t, "the worker knows", func() bool {
		call, err := a.Begin(false)
		call.End(nil)
		return err == nil
	})
	require.NoError(t, a.AllowRetry())

	// What no worker says is refused, and breaks nothing.
	for _, report := range []guard.Report{{Key: v.Key}, {Key: "dependency/other", Worker: "a", Seq: 1, Settings: d}} {
		h, err := r.temporal.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
			WorkflowID: v.WorkflowID, UpdateName: activities.ReportUpdate, Args: []any{report}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err == nil {
			err = h.Get(t.Context(), nil)
		}
		require.Error(t, err)
	}
}

// Three workers together stay within the budget that one would have.
func TestWorkersShareABudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	d := policies.Dependency{Name: limitKey(t), Budget: policies.Budget{Percent: 20, Minimum: 5, Window: 10 * time.Minute}}
	var retries atomic.Int32
	var wg sync.WaitGroup
	began := time.Now()
	for _, name := range []string{"a", "b", "c"} {
		worker := process(r, name, d)
		wg.Go(func() {
			for range 100 {
				call, err := worker.Begin(false)
				if err != nil {
					t.Error(err)
					return
				}
				call.End(unavailable)
				if worker.AllowRetry() == nil {
					retries.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d retries for 300 first tries, in %s", retries.Load(), time.Since(began))
	require.LessOrEqual(t, retries.Load(), int32(60))
	require.GreaterOrEqual(t, retries.Load(), int32(20))
}

// A dependency that was reported to more often than a workflow can bear leaves its history behind, and its state not.
func TestDependencyContinuesAsNew(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	d := policies.Dependency{Name: limitKey(t), Breaker: policies.Breaker{Failures: 1, Cooldown: time.Hour}}.WithDefaults()
	sharer, key := activities.NewSharer(r.temporal), guard.DependencyKey(d.Name)
	a, err := sharer.Share(t.Context(), guard.Report{Key: key, Settings: d, Worker: "a", Seq: 1, Counts: guard.Counts{Calls: 1, Failures: 1}})
	require.NoError(t, err)
	require.True(t, a.Open)
	for i := range 550 {
		a, err = sharer.Share(t.Context(), guard.Report{Key: key, Settings: d, Worker: "b", Seq: i + 1})
		require.NoError(t, err, "report %d", i)
		require.True(t, a.Open)
	}
	e, err := r.temporal.DescribeWorkflowExecution(t.Context(), activities.DependencyID(key), "")
	require.NoError(t, err)
	require.NotEqual(t, e.GetWorkflowExecutionInfo().GetFirstRunId(), e.GetWorkflowExecutionInfo().GetExecution().GetRunId())
	require.Less(t, e.GetWorkflowExecutionInfo().GetHistoryLength(), int64(3000))
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, e.GetWorkflowExecutionInfo().GetStatus())
	replay(t, "dependency-continued", r.historyOf(activities.DependencyID(key)))
}

// Without anybody who takes reports, calls go on.
func TestDependencyWithoutAServer(t *testing.T) {
	t.Parallel()
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: nil})
	require.NoError(t, err)
	defer c.Close()
	d := guard.New(guard.Options{Sharer: activities.NewSharer(c)}).Dependency(policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 2}})
	began := time.Now()
	for range 2 {
		call, err := d.Begin(false)
		require.NoError(t, err)
		call.End(unavailable)
	}
	_, err = d.Begin(false)
	require.Error(t, err)
	require.Less(t, time.Since(began), 30*time.Second)
}

type guarded struct {
	Tries int
	Note  string
}

// A step's dependency is asked before each attempt and told how it ended; the run's budget ends retries.
func TestStepsAreGuarded(t *testing.T) {
	t.Parallel()
	name := limitKey(t)
	var calls atomic.Int32
	f := flow.New("GuardedFlow",
		flow.Step("call", func(context.Context, *guarded) error {
			calls.Add(1)
			return policies.WithClass(errors.New("503"), policies.Transient)
		}, policies.Retry{MaximumAttempts: 50, InitialInterval: time.Millisecond, MaximumInterval: time.Millisecond},
			policies.Dependency{Name: name, Budget: policies.Budget{Percent: 1, Minimum: 100}}, policies.Budget{Percent: 10, Minimum: 3},
			policies.Catch(func(_ context.Context, s *guarded, f *policies.Failure) error {
				s.Tries, s.Note = int(calls.Load()), string(f.Class)+": "+f.Message
				return nil
			})),
	)
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[guarded](t, run, f)
	// A step whose question is not answered within 300 ms goes by what this process has seen. The answer that comes too late may
	// bring a retry that the process does not make: it counts for the dependency until it is given back.
	require.InDelta(t, 4, s.Tries, 1, s.Note)
	require.LessOrEqual(t, s.Tries, 4, s.Note)
	require.Contains(t, s.Note, "OverBudget: ")
	require.Contains(t, s.Note, "the budget of the run is 10%, at least 3")

	v, err := r.client.Dependency(t.Context(), name)
	require.NoError(t, err)
	require.InDelta(t, s.Tries-1, v.Budget.Retries, 1)
	budget, err := r.client.Dependency(t.Context(), f.Name()+"/"+run.Run.Run)
	require.NoError(t, err)
	require.Equal(t, f.Name()+"/"+run.Run.Run, budget.Name())
	eventually(t, "it is listed", func() bool {
		all, err := r.client.Dependencies(t.Context(), false)
		require.NoError(t, err)
		found := false
		for _, d := range all {
			found = found || d.Name() == name
			require.NotEqual(t, budget.Key, d.Key)
		}
		return found
	})
}

// The verb, on the embedded server of another process.
func TestBreakersVerb(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	name := limitKey(t)
	d := process(r, "worker", policies.Dependency{Name: name, Breaker: policies.Breaker{Failures: 1, Cooldown: time.Hour}, Budget: policies.Budget{Percent: 20}})
	c, err := d.Begin(false)
	require.NoError(t, err)
	c.End(unavailable)
	eventually(t, "it is open", func() bool {
		v, err := r.client.Dependency(t.Context(), name)
		return err == nil && v.State == guard.Opened
	})
	env := []string{"TEMPORAL_ADDRESS=" + testserver.Get(t).Address}
	dir := t.TempDir()
	eventually(t, "it is listed", func() bool {
		code, stdout, stderr := call(t, "starter", dir, env, "breakers")
		require.Equal(t, stepwell.ExitOK, code, stderr)
		return strings.Contains(stdout, name)
	})
	code, stdout, stderr := call(t, "starter", dir, env, "breakers", name)
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Contains(t, stdout, name+" open\n")
	require.Contains(t, stdout, "opens for 1h at 1 failure and 50% within 30s")
	require.Contains(t, stdout, "1 of 1 in 30s")
	code, stdout, stderr = call(t, "starter", dir, env, "breakers", name, "--json")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &doc))
	require.Equal(t, "open", doc["state"])
	code, stdout, stderr = call(t, "starter", dir, env, "breakers", "reset", name)
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Equal(t, name+" is closed\n", stdout)
	code, _, stderr = call(t, "starter", dir, env, "breakers", "nobody")
	require.Equal(t, stepwell.ExitNotFound, code)
	require.Contains(t, stderr, `"nobody" was not called within the last ten minutes`)

	// Without any server there is nothing to see, and none is started.
	code, _, stderr = call(t, "starter", dir, nil, "breakers")
	require.Equal(t, stepwell.ExitUnavailable, code)
	require.Contains(t, stderr, "no process runs a server")
	_, err = os.Stat(dir + "/.stepwell")
	require.ErrorIs(t, err, os.ErrNotExist)
}
