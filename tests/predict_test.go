package tests

import (
	"crypto/rand"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
	"github.com/stepwell-flows/stepwell/examples/flightdelay"
	"github.com/stepwell-flows/stepwell/examples/modelserver/serve"
	"github.com/stepwell-flows/stepwell/examples/predictions"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

// asked is a request for one item, as a model server saw it.
type asked struct {
	key, request string
	at, answered time.Time
	after        time.Duration // the wait that the answer asked for
	failed       bool          // the answer was 503
}

// watched notes what is asked.
type watched struct {
	mu  sync.Mutex
	all []asked
}

func (w *watched) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := asked{request: r.Header.Get(predict.RequestHeader), at: time.Now()}
		a.key, _ = predict.ParseKey(r.Header)
		defer func() {
			if n, err := strconv.Atoi(rw.Header().Get("Retry-After")); err == nil && r.Context().Err() == nil { // else nobody heard of it
				a.after = time.Duration(n) * time.Second
			}
			a.answered = time.Now()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.all = append(w.all, a)
		}()
		next.ServeHTTP(&noticed{rw, &a.failed}, r)
	})
}

// noticed notes the status 503.
type noticed struct {
	http.ResponseWriter
	failed *bool
}

func (f *noticed) WriteHeader(status int) {
	*f.failed = status == http.StatusServiceUnavailable
	f.ResponseWriter.WriteHeader(status)
}

// byKey are the requests of each key in the order of their arrival.
func (w *watched) byKey() map[string][]asked {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string][]asked{}
	for _, a := range w.all {
		out[a.key] = append(out[a.key], a)
	}
	return out
}

// modelServer serves a trained model with faults.
type modelServer struct {
	url      string
	model    *serve.Model
	executed serve.Counter
	watched
}

func newModelServer(t testing.TB, faults serve.Faults) *modelServer {
	t.Helper()
	r := newRig(t, t.TempDir(), flightdelay.Flow())
	run := r.run(flightdelay.Flow(), nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	model, err := serve.Load(t.Context(), r.store, "FlightDelayFlow/latest")
	require.NoError(t, err)
	r.stop()
	m := &modelServer{model: model}
	kept := artifacts.New(mem.New(), artifacts.Options{})
	one := m.wrap(faults.Wrap(predict.Middleware(kept, predict.ServerOptions{}), m.executed.Wrap(model)))
	mux := http.NewServeMux()
	mux.Handle("/predict", one)
	mux.Handle("/predict/batch", predict.BatchHandler(one, predict.BatchHandlerOptions{Parallel: 20}))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	m.url = s.URL
	return m
}

// Ten thousand predictions by a server that fails, with workers that are killed all the time.
func TestKilledPredictions(t *testing.T) {
	t.Parallel()
	killedPredictions(t, 10_000, 500)
}

var full = flag.Bool("full", false, "TestKilledPredictionTasks with 10,000 tasks, which takes some minutes on two cores")

// The same, with a task for each flight.
func TestKilledPredictionTasks(t *testing.T) {
	t.Parallel()
	count := 1500
	if *full {
		count = 10_000
	}
	killedPredictions(t, count, 0)
}

func killedPredictions(t *testing.T, count, batch int) {
	t.Helper()
	m := newModelServer(t, serve.Faults{
		Transient: 0.3, Limited: 0.05, RetryAfter: time.Second, Permanent: 0.01, Latency: 200 * time.Millisecond,
	})
	const every, most = 4 * time.Second, 6
	w := newWorkers(t, 2)
	store, err := artifacts.Open(t.Context(), w.store, artifacts.Options{})
	require.NoError(t, err)
	c := stepwell.NewClient(testserver.Get(t).Dial(t), store, stepwell.ClientOptions{
		TaskQueue: w.queue, Namespace: testserver.Get(t).Namespace, Heartbeat: 2 * time.Second, User: "tester",
	})
	f := predictions.Flow()
	started := time.Now()
	run, err := c.Start(t.Context(), f, stepwell.StartOptions{Params: map[string]string{
		"server": m.url, "count": strconv.Itoa(count), "batch": strconv.Itoa(batch),
	}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		again, err := c.Wait(t.Context(), run.Flow, run.Run.Run)
		run = again
		ended <- err
	}()
	kills := 0
	for ticks, over := time.NewTicker(every), false; !over; {
		select {
		case err := <-ended:
			require.NoError(t, err)
			over = true
		case <-ticks.C:
			if kills == most { // with more, it is the kills that make the traffic
				continue
			}
			for _, p := range w.byPID { // whichever comes first
				w.kill(fmt.Sprint("worker:", p.Process.Pid))
				break
			}
			w.add()
			kills++
		}
	}
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[predictions.State](t, run, f)
	t.Logf("%d kills, %s, failed %v", kills, time.Since(started), s.Failed)
	require.Positive(t, kills)

	// Each flight has its prediction or a class.
	require.Len(t, s.Probabilities, count)
	data, err := flightdelay.BuiltIn()
	require.NoError(t, err)
	missing := 0
	for i, p := range s.Probabilities {
		if math.IsNaN(p) {
			missing++
			continue
		}
		want, err := m.model.Predict(serve.Flight{
			Departure: data.Time(i).Format(serve.Layout), Origin: data.Origin[i], Destination: data.Destination[i], Distance: data.Distance[i],
		})
		require.NoError(t, err)
		require.InDelta(t, want.Probability, p, 0, "flight %d", i)
	}
	for class, n := range s.Failed {
		require.Contains(t, []policies.Class{policies.Invalid, policies.Transient, policies.RateLimited, policies.OverBudget}, policies.Class(class))
		missing -= n
	}
	require.Zero(t, missing)
	require.InDelta(t, count/100, s.Failed[string(policies.Invalid)], 5*math.Sqrt(float64(count)/100))
	if batch > 0 {
		requireRecords(t, store, run, "predict_part", count/batch)
	}

	keys, _, times := m.executed.Stats()
	require.Equal(t, 1, times, "no flight is predicted twice")
	require.LessOrEqual(t, keys, count)

	// Waits, and how much was asked in all.
	byKey := m.byKey()
	require.Len(t, byKey, count)
	requests, firsts := 0, map[string]bool{}
	for key, all := range byKey {
		for i, a := range all {
			requests++
			firsts[key+a.request] = true
			if i > 0 && all[i-1].after > 0 {
				require.False(t, a.at.Before(all[i-1].answered.Add(all[i-1].after)), "%s comes %s early",
					key, all[i-1].answered.Add(all[i-1].after).Sub(a.at))
			}
		}
	}
	retries := requests - len(firsts)
	t.Logf("%d requests, %d first tries, %d retries", requests, len(firsts), retries)
	require.LessOrEqual(t, retries, len(firsts), "the budget is 100 retries for 100 first tries")
	lost := 2 * stepwell.DefaultSlots() // of the tasks of a worker that is killed; of its batches what is under way, and what came since they kept results
	if batch > 0 {
		lost = 3 * 32 * 20
	}
	require.LessOrEqual(t, len(firsts)-count, kills*lost, "only what killed workers had not kept is asked for once more")
	require.Greater(t, retries, count/5, "a third of the requests failed")
}

// An outage of the server costs no flight its prediction: the tasks wait until it is over, and it is left alone meanwhile.
func TestPredictionsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	const count, after, away = 10_000, 1500 * time.Millisecond, 65 * time.Second // longer than the budget looks back
	w := newWorkers(t, 2)
	m := newModelServer(t, serve.Faults{Latency: 500 * time.Millisecond, OutageAfter: after, OutageFor: away})
	began := time.Now()
	store, err := artifacts.Open(t.Context(), w.store, artifacts.Options{})
	require.NoError(t, err)
	c := stepwell.NewClient(testserver.Get(t).Dial(t), store, stepwell.ClientOptions{
		TaskQueue: w.queue, Namespace: testserver.Get(t).Namespace, User: "tester",
	})
	f := predictions.Flow()
	run, err := c.Start(t.Context(), f, stepwell.StartOptions{Params: map[string]string{
		"server": m.url, "count": strconv.Itoa(count), "batch": "200",
	}})
	require.NoError(t, err)
	run, err = c.Wait(t.Context(), run.Flow, run.Run.Run)
	require.NoError(t, err)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[predictions.State](t, run, f)
	require.Empty(t, s.Failed)
	keys, calls, _ := m.executed.Stats()
	require.Equal(t, []int{count, count}, []int{keys, calls})

	// From a moment after the first failure on, so that what was under way has come back.
	var begun, first time.Time
	before, refused, late := 0, 0, 0
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.all {
		if begun.IsZero() || a.at.Before(begun) {
			begun = a.at
		}
		if a.failed && (first.IsZero() || a.at.Before(first)) {
			first = a.at
		}
	}
	const moment = 2 * time.Second
	for _, a := range m.all {
		switch {
		case a.at.Before(first):
			before++
		case a.failed && a.at.After(first.Add(moment)):
			late++
		case a.failed:
			refused++
		}
	}
	usual := float64(before) / first.Sub(begun).Seconds()
	rate := float64(late) / (away - moment).Seconds()
	t.Logf("%s in all; %.0f requests a second before the outage, %d refused as it began, %d later: %.2f%% of what is usual",
		time.Since(began), usual, refused, late, 100*rate/usual)
	require.Positive(t, refused)
	require.Less(t, rate, usual/50, "a call now and then asks whether it is over")
}

// Requests with the same keys, by many clients, to several servers over one bucket: each key is executed once, and everybody gets
// the same response.
func TestIdempotencyOnS3(t *testing.T) {
	t.Parallel()
	m, _ := s3Server(t)
	bucket, err := m.NewBucket(t.Context())
	require.NoError(t, err)
	config := m.Config()
	var executed serve.Counter
	var urls []string
	for range 3 {
		d, err := s3.New(t.Context(), s3.Options{Bucket: bucket, Endpoint: m.Endpoint, PathStyle: true, AWS: &config})
		require.NoError(t, err)
		guard := predict.Middleware(artifacts.New(d, artifacts.Options{}), predict.ServerOptions{})
		s := httptest.NewServer(guard(executed.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Millisecond)
			fmt.Fprintf(w, "%q", rand.Text())
		}))))
		t.Cleanup(s.Close)
		urls = append(urls, s.URL)
	}
	const keys, clients = 30, 6
	var mu sync.Mutex
	got := map[string]map[string]int{}
	var wg errgroup.Group
	for i := range clients {
		c, err := predict.New(predict.HTTP(urls[i%len(urls)], predict.HTTPOptions{}), predict.Options{
			Retry: policies.Retry{MaximumAttempts: 20},
		})
		require.NoError(t, err)
		for k := range keys {
			wg.Go(func() error {
				key := fmt.Sprint("key-", k)
				answer, err := predict.Call[int, string](t.Context(), c, key, k)
				mu.Lock()
				defer mu.Unlock()
				if got[key] == nil {
					got[key] = map[string]int{}
				}
				got[key][answer]++
				return err
			})
		}
	}
	require.NoError(t, wg.Wait())
	require.Len(t, got, keys)
	for key, answers := range got {
		require.Len(t, answers, 1, key)
		for _, n := range answers {
			require.Equal(t, clients, n)
		}
	}
	all, calls, most := executed.Stats()
	require.Equal(t, []int{keys, keys, 1}, []int{all, calls, most})
}
